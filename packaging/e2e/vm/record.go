package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The disk is a list of records, number 1 in the first block. Each has a block of its own:
//
//	offset 0        8       16    24                        508      512
//	       "TRRECORD" number  run   filled with the number    CRC-32C
const (
	recordBytes = 512
	diskBytes   = 32 << 20
	maxRecords  = diskBytes / recordBytes
)

var recordMagic = []byte("TRRECORD")

// record is one write of the guest. run tells its incarnations apart.
type record struct{ number, run uint64 }

// put lays the record out in a block.
func (r record) put(b []byte) {
	copy(b, recordMagic)
	binary.LittleEndian.PutUint64(b[8:], r.number)
	binary.LittleEndian.PutUint64(b[16:], r.run)
	for i := 24; i < recordBytes-4; i++ {
		b[i] = byte(r.number)
	}
	binary.LittleEndian.PutUint32(b[recordBytes-4:], checksum(b))
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b[:recordBytes-4], crc32.MakeTable(crc32.Castagnoli))
}

// parse gives the record in a block; nothing was written there when it is all zeros.
func parse(b []byte) (r record, written bool, err error) {
	if bytes.Equal(b, make([]byte, recordBytes)) {
		return record{}, false, nil
	}
	if !bytes.HasPrefix(b, recordMagic) || binary.LittleEndian.Uint32(b[recordBytes-4:]) != checksum(b) {
		return record{}, true, fmt.Errorf("damaged: it begins with %x", b[:24])
	}
	return record{binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:])}, true, nil
}
