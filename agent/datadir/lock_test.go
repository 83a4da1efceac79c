package datadir

import (
	"errors"
	"os"
	"testing"
)

// Goal: two agents never share a directory, an agent never shares it with a rescue, two rescues
// may. flock(2) locks belong to the open file, so one process can play all parts.
func TestLock_Sharing(t *testing.T) {
	tests := []struct {
		name          string
		first, second func(string) (*Lock, error)
		shared        bool
	}{
		{"agent and agent", Exclusive, Exclusive, false},
		{"agent and rescue", Exclusive, Shared, false},
		{"rescue and agent", Shared, Exclusive, false},
		{"rescue and rescue", Shared, Shared, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			one, err := tt.first(dir)
			if err != nil {
				t.Fatal(err)
			}
			two, err := tt.second(dir)
			if tt.shared != (err == nil) || (err != nil && !errors.Is(err, ErrInUse)) {
				t.Fatalf("second lock: %v, want shared = %v", err, tt.shared)
			}
			if err == nil {
				two.Release()
			}
			if err := one.Release(); err != nil {
				t.Fatal(err)
			}
			if err := one.Release(); err != nil {
				t.Fatalf("second release: %v", err)
			}
			again, err := tt.second(dir)
			if err != nil {
				t.Fatalf("after release: %v", err)
			}
			again.Release()
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Fatalf("the lock left %v behind", left)
			}
		})
	}
}

func TestLock_NoDirectory(t *testing.T) {
	if _, err := Shared(t.TempDir() + "/none"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("got %v, want not exist", err)
	}
}
