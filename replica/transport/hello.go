package transport

import (
	"encoding/binary"
	"fmt"
)

// lane is one of the connections between two nodes; DESIGN.md says why there are three.
type lane uint8

const (
	beatLane lane = 1
	bulkLane lane = 2
	callLane lane = 3
	lanes         = 3
)

func (l lane) String() string {
	switch l {
	case beatLane:
		return "beat"
	case bulkLane:
		return "bulk"
	case callLane:
		return "call"
	default:
		return fmt.Sprintf("lane %d", uint8(l))
	}
}

// Versions of the protocol that this build speaks. Two nodes use the highest that both speak.
const (
	minVersion = 1
	maxVersion = 1
)

const (
	helloMagic = "trinas\r\n"
	helloBytes = 40
)

// status is what the accepting side thinks of the connection.
type status uint8

const (
	welcome   status = 0
	notMember status = 1 // the accepting node does not count the dialling node as a member
)

// hello is the first thing each side of a connection says: the dialling side, then the other.
type hello struct {
	min, max uint16 // versions
	lane     lane
	status   status // 0 from the dialling side
	cluster  ClusterID
	node     NodeID
}

// append encodes a hello; integers are little-endian:
//
//	0         8     10    12     13       14     16        32       40
//	+---------+-----+-----+------+--------+------+---------+--------+
//	|  magic  | min | max | lane | status | zero | cluster |  node  |
//	+---------+-----+-----+------+--------+------+---------+--------+
//
// The first 12 bytes stay as they are in every version.
func (h hello) append(b []byte) []byte {
	b = append(b, helloMagic...)
	b = binary.LittleEndian.AppendUint16(b, h.min)
	b = binary.LittleEndian.AppendUint16(b, h.max)
	b = append(b, byte(h.lane), byte(h.status), 0, 0)
	b = append(b, h.cluster[:]...)
	return binary.LittleEndian.AppendUint64(b, h.node)
}

// parseHello checks what can be checked without knowing who was expected.
func parseHello(b []byte) (h hello, err error) {
	if len(b) != helloBytes || string(b[:8]) != helloMagic {
		return h, fmt.Errorf("garbage instead of a hello: % x", b[:min(len(b), 16)])
	}
	h.min = binary.LittleEndian.Uint16(b[8:])
	h.max = binary.LittleEndian.Uint16(b[10:])
	if h.min > maxVersion || h.max < minVersion || h.min > h.max {
		return h, fmt.Errorf("it speaks versions %d to %d of the protocol, this node %d to %d: "+
			"upgrade the older one", h.min, h.max, minVersion, maxVersion)
	}
	h.lane, h.status = lane(b[12]), status(b[13])
	if h.lane < beatLane || h.lane > callLane {
		return h, fmt.Errorf("hello for unknown %s", h.lane)
	}
	copy(h.cluster[:], b[16:])
	h.node = binary.LittleEndian.Uint64(b[32:])
	return h, nil
}
