package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"trinas/replica"
)

// fixedVerify is a verification with a finding of each kind.
func fixedVerify(state replica.VerifyState) *replica.VerifyStatus {
	began := time.Date(2026, 11, 24, 3, 0, 0, 0, time.Local)
	ended, next := began.Add(90*time.Minute), began.Add(7*24*time.Hour)
	v := &replica.VerifyStatus{State: state, Began: &began, Ended: &ended, Next: &next, Repair: true, DoneBytes: 100 << 30, TotalBytes: 100 << 30,
		Findings: []replica.VerifyFinding{
			{Path: "images/100/vm-100-disk-0.raw", Offset: 5 << 20, Nodes: []string{"pve2"}, What: replica.FoundDiffers, Repaired: true},
			{Path: "images/100/vm-100-disk-0.raw", Offset: 9 << 20, Nodes: []string{"pve3"}, What: "unreadable", Repaired: true,
				Detail: "read directly /var/lib/trinas/volumes/05/objects/07/07: input/output error"},
			{Path: "template/iso/debian.iso", Nodes: []string{"pve1", "pve2", "pve3"}, What: replica.FoundNoMajority},
			{Nodes: []string{"pve1"}, What: replica.FoundTable},
		}}
	if state == replica.VerifyRunning || state == replica.VerifyPaused {
		v.Ended, v.Next, v.DoneBytes, v.SecondsLeft = nil, nil, 25<<30, 4300
	}
	if state == replica.VerifyPaused {
		v.Waiting = "node pve3 is out of touch"
	}
	return v
}

// Goal: what trinas verify and trinas status say of verifications is laid out for people, and changes only
// on purpose (-update); the exit status is 2 while damage is left.
func TestVerifyText(t *testing.T) {
	var b strings.Builder
	for _, s := range []*replica.VerifyStatus{
		{State: replica.VerifyNever}, fixedVerify(replica.VerifyRunning), fixedVerify(replica.VerifyPaused), fixedVerify(replica.VerifyDone),
	} {
		b.WriteString(verifyText("vmstore", s))
		if line := verifyLine(replica.VolumeStatus{Name: "vmstore", Verify: s}); line != "" {
			b.WriteString("status: " + line + "\n")
		}
		b.WriteString("\n")
	}
	whole := fixedVerify(replica.VerifyDone)
	whole.Findings = nil
	b.WriteString(verifyText("vmstore", whole))
	golden(t, "verify", b.String())

	var out bytes.Buffer
	c := &cli{out: &out}
	if err := c.verified(replica.VolumeStatus{Name: "vmstore", Verify: fixedVerify(replica.VerifyDone)}); err != exitStatus(2) {
		t.Errorf("with damage: %v", err)
	}
	if err := c.verified(replica.VolumeStatus{Name: "vmstore", Verify: whole}); err != nil {
		t.Errorf("without: %v", err)
	}
	if err := c.verified(replica.VolumeStatus{Name: "vmstore"}); err == nil {
		t.Error("without a primary: no error")
	}
}
