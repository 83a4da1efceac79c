package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// meeting is where the actors of a scenario wait for one another: each comes to a place by its name,
// with a word for the others, and goes on when all have come.
type meeting struct {
	actors []string // their names, in order

	mu    sync.Mutex
	left  []string          // those who have ended
	open  map[string]*place // where some wait
	ended chan struct{}     // closed, and made anew, when one more has ended
}

type place struct {
	words map[string]string // of those who are there
	full  chan struct{}     // closed when all are
}

func newMeeting(actors []string) *meeting {
	return &meeting{actors: actors, open: map[string]*place{}, ended: make(chan struct{})}
}

// meet waits until every actor has come to the place and returns their words, separated by blanks,
// in the actors' order. The same name may be used again then. An actor that has ended will never
// come: that is an error for those who wait.
func (m *meeting) meet(ctx context.Context, actor, name, word string) (string, error) {
	m.mu.Lock()
	p := m.open[name]
	if p == nil {
		p = &place{words: map[string]string{}, full: make(chan struct{})}
		m.open[name] = p
	}
	if _, twice := p.words[actor]; twice {
		m.mu.Unlock()
		return "", fmt.Errorf("meet %s: %s waits there already", name, actor)
	}
	p.words[actor] = word
	if len(p.words) == len(m.actors) {
		delete(m.open, name)
		close(p.full)
	}
	m.mu.Unlock()
	for {
		m.mu.Lock()
		ended := m.ended
		missing := slices.DeleteFunc(slices.Clone(m.left), func(a string) bool { _, came := p.words[a]; return came })
		m.mu.Unlock()
		if len(missing) > 0 {
			return "", fmt.Errorf("meet %s: %s has ended and will not come", name, strings.Join(missing, ", "))
		}
		select {
		case <-p.full:
			words := make([]string, len(m.actors))
			for i, a := range m.actors {
				words[i] = p.words[a]
			}
			return strings.Join(words, " "), nil
		case <-ended:
		case <-ctx.Done():
			return "", fmt.Errorf("meet %s: %w", name, ctx.Err())
		}
	}
}

// leave says that an actor has ended.
func (m *meeting) leave(actor string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = append(m.left, actor)
	close(m.ended)
	m.ended = make(chan struct{})
}
