// Package nfs3 is the wire format of NFS version 3 and its MOUNT protocol (RFC 1813): arguments
// and results of every procedure, decoded and encoded both ways, file handles, and a small client
// for tests and tools. Status codes, procedure numbers and file types are go-nfs's.
//
// It must never panic on what a peer sent and never decide anything: no I/O on volumes, no
// permissions. Decoded slices alias what they were decoded from.
//
// Floor 1: imports nfsgw/rpc.
package nfs3
