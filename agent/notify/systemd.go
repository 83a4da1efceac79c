// Package notify is the agent's side of the service manager: it tells systemd how the agent fares,
// keeps its watchdog content, and takes over the sockets that systemd listens on for it. Without
// systemd every call does nothing. It must never fail the agent: a message that cannot be sent is
// only logged.
//
// Floor 0: imports nothing of trinas.
package notify

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// Systemd sends sd_notify(3) messages. The zero value is not usable; see New.
type Systemd struct{ log *slog.Logger }

// New returns a Systemd that logs what it cannot send to log.
func New(log *slog.Logger) *Systemd { return &Systemd{log: log} }

// Ready says that the agent has started.
func (s *Systemd) Ready() { s.send(daemon.SdNotifyReady) }

// Status says the agent's state in one line.
func (s *Systemd) Status(status string) { s.send("STATUS=" + status) }

// Stopping says that the agent is about to end.
func (s *Systemd) Stopping(status string) { s.send(daemon.SdNotifyStopping + "\nSTATUS=" + status) }

// Alive tells the watchdog (WatchdogSec= of the unit) that the agent does its work: to be called at
// least twice in that time, and only when it is true.
func (s *Systemd) Alive() { s.send(daemon.SdNotifyWatchdog) }

func (s *Systemd) send(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd was not told: check NOTIFY_SOCKET", "event", "systemd-deaf", "cause", err)
	}
}

// Supervised reports whether systemd has started this process as a service's (SYSTEMD_EXEC_PID,
// systemd.exec(5)), and so may start it again when it is killed.
func Supervised() bool { return os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()) }

// Listener returns the listening socket that systemd handed over under name (FileDescriptorName=
// of the socket unit), or nil when it handed over none of that name. Sockets of other names are
// closed. It clears the environment variables that announce the sockets, so only the first call
// can find one.
func Listener(name string) (net.Listener, error) {
	var found net.Listener
	for given, files := range activation.FilesWithNames() {
		for _, f := range files {
			if given == name && found == nil {
				l, err := net.FileListener(f)
				if err != nil {
					closeAll(files)
					return nil, fmt.Errorf("socket %q from systemd: %w: check the socket unit", name, err)
				}
				found = l
			}
			f.Close() // FileListener has made its own copy
		}
	}
	return found, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
