package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"trinas/agent/drill"
	"trinas/packaging/lab"
)

func wholeReport() report {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	n1, n3 := &lab.Node{Host: &lab.Host{Name: "n1"}}, &lab.Node{Host: &lab.Host{Name: "n3"}}
	r := report{newPrimary: 620 * time.Millisecond, catchUp: 1500 * time.Millisecond, copyTime: 6 * time.Second,
		imageChecked: true, acknowledged: 1234, writesChecked: true}
	r.phase("undisturbed", at(0), at(30), nil, 0)
	r.phase("primary killed", at(30), at(700), n3, time.Second)
	r.phase("handed over", at(700), at(1000), n1, 200*time.Millisecond)
	line := func(moments ...int) (t timeline) {
		for _, ms := range moments {
			t.add(at(ms))
		}
		return t
	}
	r.measure([]*probe{
		{node: n1, times: line(5, 12, 29, 660, 700, 1000)},
		{node: n3, times: line(10, 30, 699, 705, 960)},
	})
	return r
}

func TestReport_Print(t *testing.T) {
	const want = `
  longest gap in I/O  undisturbed  primary killed   handed over
                  n1        17 ms          631 ms          down
                  n3        20 ms            down  over: 255 ms
                goal                      1000 ms        200 ms

time until a new primary   620 ms
time to catch up           1500 ms
time to copy the image in  6000 ms
writes acknowledged        1234
of these lost              0
`
	var b strings.Builder
	r := wholeReport()
	r.print(&b)
	if got := b.String(); got != want {
		t.Errorf("got:%s\nwant:%s", got, want)
	}
}

// Anything that was lost, damaged or not looked at is a failure.
func TestReport_Verdict(t *testing.T) {
	if r := wholeReport(); r.verdict() != nil {
		t.Errorf("all well: %v", r.verdict())
	}
	for name, spoil := range map[string]func(*report){
		"image differs":   func(r *report) { r.image = errors.New("differs") },
		"image unchecked": func(r *report) { r.imageChecked = false },
		"lost":            func(r *report) { r.addLosses("n1", drill.Losses{Lost: 1, First: "slot 1"}) },
		"damaged":         func(r *report) { r.addLosses("n3", drill.Losses{Damaged: 1, First: "slot 1"}) },
		"unchecked":       func(r *report) { r.writesChecked = false },
		"no writes":       func(r *report) { r.acknowledged = 0 },
		"nothing at all":  func(r *report) { *r = report{} },
	} {
		r := wholeReport()
		spoil(&r)
		if r.verdict() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
