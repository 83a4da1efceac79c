package vm

import (
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// qmp speaks QEMU's machine protocol (QEMU docs/interop/qmp-spec): a JSON object a line each way. For one
// goroutine at a time.
type qmp struct {
	conn net.Conn
	in   *json.Decoder
}

// answerTimeout bounds the wait for an answer: commands only begin what takes long.
const answerTimeout = 20 * time.Second

func dialQMP(path string) (*qmp, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	q := &qmp{conn: conn, in: json.NewDecoder(conn)}
	var greeting struct {
		QMP json.RawMessage `json:"QMP"`
	}
	_ = conn.SetDeadline(time.Now().Add(answerTimeout))
	if err = q.in.Decode(&greeting); err == nil {
		err = q.do("qmp_capabilities", nil, nil)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

func (q *qmp) Close() { q.conn.Close() }

// do carries out a command and decodes what it returns. Events that come meanwhile are passed over.
func (q *qmp) do(command string, arguments, into any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	_ = q.conn.SetDeadline(time.Now().Add(answerTimeout))
	if _, err := q.conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("QEMU: %s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := q.in.Decode(&answer); err != nil {
			return fmt.Errorf("QEMU: %s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("QEMU: %s: %s", command, answer.Error.Desc)
		case answer.Return == nil: // an event
		case into == nil:
			return nil
		default:
			return json.Unmarshal(answer.Return, into)
		}
	}
}
