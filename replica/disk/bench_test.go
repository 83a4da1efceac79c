package disk

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkWriteAt: small buffered writes over what large ones have left in the kernel's memory.
func BenchmarkWriteAt(b *testing.B) {
	const size = 64 << 20
	for _, fill := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("over%dKiB", fill>>10), func(b *testing.B) {
			f, err := OS(b.TempDir()).Open("f", Create)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			p := make([]byte, fill)
			for off := int64(0); off < size; off += int64(fill) {
				if _, err := f.WriteAt(p, off); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if _, err := f.WriteAt(p[:BlockBytes], BlockBytes*rand.Int64N(size/BlockBytes)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWriteSync: the floor under every synced write, on the real disk below $TMPDIR.
func BenchmarkWriteSync(b *testing.B) {
	for _, size := range []int{4 << 10, 8 << 10, 1 << 20} {
		for _, direct := range []bool{true, false} {
			b.Run(fmt.Sprintf("%dKiB/direct=%v", size>>10, direct), func(b *testing.B) {
				f, err := OS(b.TempDir()).Open("f", Create)
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				const room = 64 << 20
				if err := f.Preallocate(room); err != nil {
					b.Fatal(err)
				}
				f.(*osFile).synced.refused = !direct
				p, off := AlignedBytes(size), int64(0)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := f.WriteSync(p, off); err != nil {
						b.Fatal(err)
					}
					if off += int64(size); off == room {
						off = 0
					}
				}
			})
		}
	}
}
