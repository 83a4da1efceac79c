package main

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
)

type answer struct {
	words string
	err   error
}

// meetAll lets actors come to a place at the same time, each with its name as its word.
func meetAll(ctx context.Context, m *meeting, name string, actors ...string) []chan answer {
	var all []chan answer
	for _, a := range actors {
		c := make(chan answer, 1)
		go func() {
			words, err := m.meet(ctx, a, name, a)
			c <- answer{words, err}
		}()
		all = append(all, c)
	}
	return all
}

// Goal: nobody goes on before all are there, all get the words in order, and a place can be used again.
func TestMeeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting([]string{"n1", "n2", "n3"})
		for range 2 {
			first := meetAll(t.Context(), m, "here", "n3", "n1")
			other := meetAll(t.Context(), m, "there", "n2")
			synctest.Wait()
			for _, c := range append(first, other...) {
				if len(c) > 0 {
					t.Fatalf("went on alone: %v", <-c)
				}
			}
			for _, c := range append(first, meetAll(t.Context(), m, "here", "n2")...) {
				if got := <-c; got.err != nil || got.words != "n1 n2 n3" {
					t.Errorf("%q, %v", got.words, got.err)
				}
			}
			for _, c := range append(other, meetAll(t.Context(), m, "there", "n1", "n3")...) {
				if got := <-c; got.err != nil {
					t.Error(got.err)
				}
			}
		}
	})
}

// Goal: who waits for one that will never come is told who it is: one that ended before, or meanwhile;
// one that came and then ended is no reason.
func TestMeeting_Leave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeeting([]string{"n1", "n2", "n3"})
		waiting := meetAll(t.Context(), m, "a", "n1", "n2")
		synctest.Wait()
		m.leave("n2")
		synctest.Wait()
		if len(waiting[0]) > 0 {
			t.Fatalf("n2 had come: %v", <-waiting[0])
		}
		m.leave("n3")
		if got := <-waiting[0]; got.err == nil || !strings.Contains(got.err.Error(), "n3 has ended") {
			t.Errorf("%q, %v", got.words, got.err)
		}
		if _, err := m.meet(t.Context(), "n1", "b", ""); err == nil || !strings.Contains(err.Error(), "n2, n3 has ended") {
			t.Error(err)
		}
	})
}
