package check

import (
	"context"
	"fmt"
	"time"
)

// certificateWarning is how long before its end a certificate is worth a warning.
const certificateWarning = 60 * 24 * time.Hour

func checkCertificates(_ context.Context, s Subject, _ Host) []Finding {
	var out []Finding
	if s.Member != nil {
		out = append(out, judgeCertificate("this node's", s.Member.CertificateEnds, time.Now()))
	}
	if s.Probe != nil {
		for _, p := range s.Probe.Peers {
			if p.Error == "" {
				out = append(out, judgeCertificate(p.Node+"'s", p.CertificateEnds, time.Now()))
			}
		}
	}
	return out
}

func judgeCertificate(whose string, ends, now time.Time) Finding {
	const do = "take the node out of the cluster and let it join again: it gets a new one"
	date := ends.UTC().Format(time.DateOnly)
	switch left := ends.Sub(now); {
	case left <= 0:
		return Finding{"certificates", Error, fmt.Sprintf("%s ended on %s, or the clock is wrong: the other nodes refuse it", whose, date),
			"set the clock right if it is off; else " + do}
	case left < certificateWarning:
		return Finding{"certificates", Warning, fmt.Sprintf("%s ends on %s", whose, date), do}
	}
	return Finding{Check: "certificates", Text: fmt.Sprintf("%s is good until %s", whose, date)}
}
