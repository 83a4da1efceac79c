package drill

import "testing"

// fill returns a ledger after some acknowledged writes and the file that they made.
func fill(slots uint64, writes int) (*Ledger, [][]byte) {
	l := &Ledger{Slots: slots}
	file := make([][]byte, slots)
	for range writes {
		slot, sequence := l.Next()
		file[slot] = make([]byte, blockBytes)
		EncodeBlock(file[slot], slot, sequence)
		l.Acknowledge()
	}
	return l, file
}

func checkAll(l *Ledger, file [][]byte) Losses {
	var found Losses
	for slot, b := range file {
		l.Check(uint64(slot), b, &found)
	}
	return found
}

func TestLedger_WholeFile(t *testing.T) {
	for _, writes := range []int{0, 1, 3, 8, 9, 21} {
		l, file := fill(8, writes)
		if found := checkAll(l, file); found != (Losses{}) {
			t.Errorf("%d writes: %+v", writes, found)
		}
	}
}

// A write that was begun and not acknowledged may be there or not.
func TestLedger_UnansweredWrite(t *testing.T) {
	l, file := fill(8, 11)
	slot, sequence := l.Next()
	if found := checkAll(l, file); found != (Losses{}) {
		t.Errorf("not there: %+v", found)
	}
	EncodeBlock(file[slot], slot, sequence)
	if found := checkAll(l, file); found != (Losses{}) {
		t.Errorf("there: %+v", found)
	}
}

// Each way in which a file can betray a writer is found.
func TestLedger_Betrayal(t *testing.T) {
	for name, test := range map[string]struct {
		break_ func(file [][]byte)
		want   Losses
	}{
		"older write":      {func(f [][]byte) { EncodeBlock(f[2], 2, 3) }, Losses{Lost: 1}},
		"never written":    {func(f [][]byte) { clear(f[4]) }, Losses{Lost: 1}},
		"past the end":     {func(f [][]byte) { f[7] = nil }, Losses{Lost: 1}},
		"one bit":          {func(f [][]byte) { f[5][1000] ^= 4 }, Losses{Damaged: 1}},
		"torn":             {func(f [][]byte) { copy(f[1][2048:], f[6][2048:]) }, Losses{Damaged: 1}},
		"another's block":  {func(f [][]byte) { copy(f[1], f[0]) }, Losses{Damaged: 1}},
		"write yet to be":  {func(f [][]byte) { EncodeBlock(f[3], 3, 28) }, Losses{Damaged: 1}},
		"two at once":      {func(f [][]byte) { clear(f[0]); f[1][9] ^= 1 }, Losses{Lost: 1, Damaged: 1}},
		"half a block":     {func(f [][]byte) { f[6] = f[6][:2048] }, Losses{Damaged: 1}},
		"zeros at the end": {func(f [][]byte) { clear(f[6][2048:]) }, Losses{Damaged: 1}},
	} {
		l, file := fill(8, 17)
		test.break_(file)
		found := checkAll(l, file)
		if found.First == "" {
			t.Errorf("%s: no description", name)
		}
		found.First = ""
		if found != test.want {
			t.Errorf("%s: found %+v, want %+v", name, found, test.want)
		}
	}
}
