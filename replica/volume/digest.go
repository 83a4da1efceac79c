package volume

import (
	"crypto/sha256"
	"fmt"
	"hash"

	"trinas/replica/disk"
)

// Digest is a checksum of the volume's state, without the Raft configuration: equal on replicas
// of a volume that have applied the same entries. With objects it covers the files' bytes as
// well, where the table says that there are holes, too, and fails if an object lacks something.
// Apply waits for it: it is for tests.
func (v *Volume) Digest(objects bool) (sum [32]byte, err error) {
	v.applyMu.Lock()
	defer v.applyMu.Unlock()
	if err := v.broken(); err != nil {
		return sum, err
	}
	h := sha256.New()
	h.Write(v.appendState(nil))
	if objects {
		buf := make([]byte, ExtentBytes)
		for in := v.table.first; in != nil; in = in.next {
			if err := v.digestObject(h, in, buf); err != nil {
				return sum, fmt.Errorf("digest object %s: %w", v.fs.Path(objectPath(in.id)), err)
			}
		}
	}
	return [32]byte(h.Sum(nil)), nil
}

// digestObject adds the file's blocks that are not all zeros.
func (v *Volume) digestObject(h hash.Hash, in *inode, buf []byte) error {
	for _, l := range in.ext.leaves {
		for i := range l.ext {
			off := uint64(l.ext[i].num) * ExtentBytes
			if off >= in.size {
				continue
			}
			p := buf[:min(ExtentBytes, in.size-off)]
			got, missing, err := v.objects.readAt(in.id, p, int64(off))
			if err != nil {
				return err
			}
			if missing && in.ext.blocks > 0 ||
				in.ext.anyAllocated(off+uint64(got), off+uint64(len(p))) {
				return fmt.Errorf("bytes are missing after %d", off+uint64(got))
			}
			for len(p) > 0 {
				n := min(len(p), disk.BlockBytes)
				if !zero(p[:n]) {
					h.Write(appendU64(appendU64(nil, uint64(in.id)), off))
					h.Write(p[:n])
				}
				p, off = p[n:], off+uint64(n)
			}
		}
	}
	return nil
}
