package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// listFiles lists a machine's files but for what changes by itself: logs, apt's and dpkg's own
// records, what is in memory.
const listFiles = `find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log \
    -o -path /var/cache -o -path /var/lib/apt -o -path '/var/lib/dpkg/*' \) -prune -o -print; find /var/lib/trinas -mindepth 1; find /var/lib/dpkg/info`

// purge does what piuparts does, on a machine with no cluster: after install, upgrade, use, removal
// and purge nothing is left but data.
func (t *trial) purge(ctx context.Context) error {
	m := t.spare
	before, err := t.files(ctx)
	if err != nil {
		return err
	}
	if len(before) < 1000 {
		return fmt.Errorf("only %d files on a Debian system: the list is not to be trusted", len(before))
	}
	for _, command := range []string{
		"apt-get update -q",
		"apt-get install -y -q trinas=" + t.repo.older.version,
		"trinas init --name alone && trinas volume create x --replicas 1",
		"test -e /etc/trinas/trinas.toml && test -e /usr/lib/systemd/catalog/trinas.catalog",
		"apt-get install -y -q trinas=" + t.repo.newer.version,
		"systemctl is-active -q trinas.service trinas.socket",
		"apt-get remove -y -q trinas",
		"! systemctl is-active -q trinas.service && ! systemctl is-active -q trinas.socket",
		"test -e /etc/trinas/trinas.toml",
		"apt-get purge -y -q trinas",
		"test ! -e /etc/trinas",
	} {
		if _, err := m.Run(ctx, "sh", "-c", command); err != nil {
			return err
		}
	}
	after, err := t.files(ctx)
	if err != nil {
		return err
	}
	var errs []error
	data := 0
	for _, path := range after {
		switch {
		case slices.Contains(before, path):
		case strings.HasPrefix(path, "/var/lib/trinas/"):
			data++
		default:
			errs = append(errs, fmt.Errorf("left behind: %s", path))
		}
	}
	for _, path := range before {
		if !slices.Contains(after, path) {
			errs = append(errs, fmt.Errorf("taken along: %s", path))
		}
	}
	if data == 0 {
		errs = append(errs, errors.New("the data are gone"))
	}
	if errs == nil {
		fmt.Printf("purge: of %d files on the system none is left behind or missing; %d files of data stay\n", len(after), data)
	}
	return errors.Join(errs...)
}

func (t *trial) files(ctx context.Context) ([]string, error) {
	out, err := t.spare.Run(ctx, "sh", "-c", listFiles)
	return strings.Split(strings.TrimSpace(string(out)), "\n"), err
}
