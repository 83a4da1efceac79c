package drill

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// stateName is the file in the data directory that a session has while it lasts.
const stateName = "drill"

const maxStateBytes = 4096

// state is what an agent must still know of a session after it was killed: the kernel keeps what was
// written to a file when a process dies. It is not synced: a session does not outlive the host.
//
//	| acknowledged 8 | last answer 8 | until 8 | length 8 | JSON, session |
//
// Times are nanoseconds since 1970.
type state struct{ file *os.File }

type session struct {
	ID     string `json:"id"`
	Volume string `json:"volume"`
	Kind   Kind   `json:"kind"`
	By     string `json:"by"` // the node whose admin asked for it
}

const stateHeadBytes = 32

func makeState(path string, s session, until time.Time) (*state, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the drill's session: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep the drill's state: %w", err)
	}
	b := make([]byte, stateHeadBytes, stateHeadBytes+len(text))
	binary.LittleEndian.PutUint64(b[16:], uint64(until.UnixNano()))
	binary.LittleEndian.PutUint64(b[24:], uint64(len(text)))
	if _, err := f.WriteAt(append(b, text...), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("keep the drill's state: %w", err), f.Close(), os.Remove(path))
	}
	return &state{file: f}, nil
}

// openState opens what a killed agent has left; nil when there is nothing. One that cannot be read is
// removed.
func openState(path string) (st *state, s session, acknowledged uint64, last, until time.Time, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s, 0, last, until, nil
	}
	if err != nil {
		return nil, s, 0, last, until, err
	}
	b := make([]byte, maxStateBytes)
	n, _ := f.ReadAt(b, 0)
	b = b[:n]
	word := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	if n < stateHeadBytes || word(24) > uint64(n-stateHeadBytes) || json.Unmarshal(b[stateHeadBytes:stateHeadBytes+word(24)], &s) != nil {
		return nil, s, 0, last, until, errors.Join(f.Close(), os.Remove(path))
	}
	return &state{file: f}, s, word(0), time.Unix(0, int64(word(8))), time.Unix(0, int64(word(16))), nil
}

// note keeps that a write was acknowledged. A failure only costs what a killed agent's report lacks.
func (s *state) note(acknowledged uint64, at time.Time) {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[0:], acknowledged)
	binary.LittleEndian.PutUint64(b[8:], uint64(at.UnixNano()))
	_, _ = s.file.WriteAt(b[:], 0)
}

func (s *state) renew(until time.Time) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(until.UnixNano()))
	_, _ = s.file.WriteAt(b[:], 16)
}

func (s *state) remove() error {
	path := s.file.Name()
	return errors.Join(s.file.Close(), os.Remove(path))
}
