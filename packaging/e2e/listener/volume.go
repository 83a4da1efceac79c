package main

import (
	"fmt"

	"trinas/nfsgw/nfs3"
	"trinas/nfsgw/rpc"
)

// largeBytes is the size of the volume's one file.
const largeBytes = nfs3.MaxIOBytes

// volume is what the clients share.
type volume struct {
	name string
	root []byte // handle
	file []byte // handle of a file of largeBytes
}

func (s *scenario) openVolume(name string) (*volume, error) {
	c, err := s.client(neighbourHost, 0)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	v := &volume{name: name}
	if v.root, err = c.Mnt(s.ctx, "/"+name); err != nil {
		return nil, err
	}
	if v.file, err = c.Create(s.ctx, v.root, "large", 0o644); err != nil {
		return nil, err
	}
	data := make([]byte, largeBytes)
	for i := range data {
		data[i] = byte(i>>12) | 1 // not zero: that would be a hole
	}
	n, _, err := c.Write(s.ctx, v.file, 0, data, nfs3.FileSync)
	if err == nil && int(n) != len(data) {
		err = fmt.Errorf("the server took %d of %d bytes", n, len(data))
	}
	return v, err
}

// root is who the clients say they are.
func root() *rpc.Cred { return &rpc.Cred{Flavor: rpc.AuthSys, Machine: []byte("listener")} }
