package replica

import (
	"encoding/json"
	"testing"
)

// Goal: what a node whose agent is older tells is read as before, and counts as a health that is not known;
// a newer one's further words do not make a node look bad.
func TestReport_OfAnOlderNode(t *testing.T) {
	var r report
	if err := json.Unmarshal([]byte(`{"leads":[{"id":9,"name":"v","primary":"n2","term":3}],"resyncs":{}}`), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Leads) != 1 || r.Machine.Health != "" || r.Machine.Load != nil || r.Machine.Health.rank() != 0 {
		t.Errorf("%+v", r)
	}
	if err := json.Unmarshal([]byte(`{"leads":[],"resyncs":{},"machine":{"health":"Dozing","busy":0.5,"more":1},"new":2}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.Machine.Health.rank() != 0 || r.Machine.Busy != 0.5 {
		t.Errorf("%+v", r.Machine)
	}
}

// Goal: the worst word holds, every reason is told, and what is well adds nothing.
func TestJudgement(t *testing.T) {
	j := judgement{health: Healthy}
	j.add(Healthy, "no reason")
	j.add("", "")
	if j.health != Healthy || len(j.reasons) != 0 {
		t.Errorf("%+v", j)
	}
	j.add(Unfit, "a")
	j.add(Degraded, "")
	if j.health != Unfit || len(j.reasons) != 2 || j.reasons[1] != "not told why" {
		t.Errorf("%+v", j)
	}
}
