package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"trinas/nfsgw/nfs3"
	"trinas/packaging/lab"
)

// load is a guest that writes 4 KiB at random places of an image: depth requests at once, then a flush, as
// qemu-img bench does with a flush every depth requests, but for a time and with the time of each round.
type load struct {
	at        *server
	host      *lab.Host // where it runs; its own server is what it asks
	image     string
	sizeBytes int64
	depth     int
}

const loadBytes = 4096

// loaded is what a load has done.
type loaded struct {
	writes int
	took   time.Duration
	rounds []time.Duration // from the first write's start to the flush's answer; sorted
	cpu    time.Duration   // of the server's processes, where somebody has looked
}

func (l loaded) perSecond() float64 { return float64(l.writes) / l.took.Seconds() }

// cpuMicros is the processor time of a write.
func (l loaded) cpuMicros() float64 { return l.cpu.Seconds() * 1e6 / float64(l.writes) }

// millis is a percentile of the rounds' times; p from 0 to 1.
func (l loaded) millis(p float64) float64 {
	return l.rounds[min(int(p*float64(len(l.rounds))), len(l.rounds)-1)].Seconds() * 1000
}

// tail is how many times longer than the median the 99th percentile is.
func (l loaded) tail() float64 { return l.millis(0.99) / l.millis(0.5) }

// and joins loads that ran at the same time.
func (l loaded) and(other loaded) loaded {
	sum := loaded{l.writes + other.writes, max(l.took, other.took), append(l.rounds, other.rounds...), l.cpu + other.cpu}
	slices.Sort(sum.rounds)
	return sum
}

// then joins a load with one that came after it.
func (l loaded) then(next loaded) loaded {
	sum := l.and(next)
	sum.took = l.took + next.took
	return sum
}

// run writes until length is over.
func (l load) run(ctx context.Context, length time.Duration) (done loaded, err error) {
	client, fh, err := l.open(ctx)
	if err != nil {
		return done, fmt.Errorf("%s: open %s: %w", l.at.name, l.image, err)
	}
	defer client.Close()
	data := bytes.Repeat([]byte{fillByte}, loadBytes)
	began := time.Now()
	for from := began; ; {
		if err := l.round(ctx, client, fh, data); err != nil {
			return done, fmt.Errorf("%s: write to %s: %w", l.at.name, l.image, err)
		}
		now := time.Now()
		done.writes += l.depth
		done.rounds = append(done.rounds, now.Sub(from))
		if done.took = now.Sub(began); done.took >= length {
			slices.Sort(done.rounds)
			return done, nil
		}
		from = now
	}
}

func (l load) round(ctx context.Context, client *nfs3.Client, fh, data []byte) error {
	errs := make([]error, l.depth)
	var under sync.WaitGroup
	for i := range l.depth {
		offset := uint64(rand.Int64N(l.sizeBytes/loadBytes)) * loadBytes
		under.Go(func() {
			n, _, err := client.Write(ctx, fh, offset, data, nfs3.Unstable)
			if err == nil && n != loadBytes {
				err = fmt.Errorf("%d of %d bytes were taken", n, loadBytes)
			}
			errs[i] = err
		})
	}
	under.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	_, err := client.Commit(ctx, fh)
	return err
}

// open mounts the export and looks the image up.
func (l load) open(ctx context.Context) (*nfs3.Client, []byte, error) {
	mount, err := l.host.Dial(ctx, fmt.Sprintf("127.0.0.1:%d", l.at.mountPort))
	if err != nil {
		return nil, nil, err
	}
	defer mount.Close()
	root, err := mount.Mnt(ctx, l.at.export)
	if err != nil {
		return nil, nil, err
	}
	client, err := l.host.Dial(ctx, "127.0.0.1:2049")
	if err != nil {
		return nil, nil, err
	}
	fh, _, err := client.Lookup(ctx, root, l.image)
	if err != nil {
		_ = client.Close()
	}
	return client, fh, err
}

// runAll runs loads at the same time and joins what they have done.
func runAll(ctx context.Context, loads []load, length time.Duration) (sum loaded, err error) {
	done := make([]loaded, len(loads))
	errs := make([]error, len(loads))
	var running sync.WaitGroup
	for i, l := range loads {
		running.Go(func() { done[i], errs[i] = l.run(ctx, length) })
	}
	running.Wait()
	for i, err := range errs {
		if err != nil {
			return loaded{}, err
		}
		sum = sum.and(done[i])
	}
	return sum, nil
}
