// Package guest runs a machine with a Linux kernel of its own beside the lab's nodes: Debian's
// user-mode-linux kernel, an ordinary program that needs no KVM, boots in a second or two and has
// the kernel's NFS client. The machine's programs are those of the host: it sees the host's /usr,
// /etc and so on read-only. Or it boots a Debian system of its own (Machine.Debian). It must never
// write outside of the folder it is given, and never outlive the context it runs with.
//
//	host                                        guest
//	Machine.Run                                 init (folder init: its first and only own program)
//	  initramfs: init, boot.json, empty folders   mounts, modules, network as boot.json says
//	  Machine.Dir/share  <------ hostfs ------>   /guest: the script runs here
//	  Machine.Output     <---- serial line ----   the script's output; last of all its status
//	  tap device         <----- vec0 --------->   addresses, routes: Machine.Network
//
// Floor 6: imports packaging/lab/initramfs.
package guest

import "time"

// bootFile is where the initramfs holds what init has to do, and /run of a Debian system what is left of it.
const bootFile = "/boot.json"

// ShareDir is where the guest finds the folder that it has in common with the host.
const ShareDir = "/guest"

// startMark is a line that init sends before it runs the program: the kernel is up.
const startMark = "\x00start"

// endMark begins the last line that init sends: the status of the script follows, in decimal, and a
// line feed. No text has a zero byte.
const endMark = "\x00end "

// mount is one file system of the guest. Target is made where it is missing.
type mount struct {
	Type, Source, Target, Data string
	ReadOnly                   bool
}

// boot is what init is told in bootFile.
type boot struct {
	// Root is where one of Mounts is the file system of a Debian system, whose systemd becomes the first process.
	// "": init stays it.
	Root    string
	Mounts  []mount
	Modules []string // files, in the order to load them
	Network []string // commands that set the network up, words separated by blanks
	Args    []string // the program to run in ShareDir
	Env     []string // NAME=value
	Limit   time.Duration
	// PowerOff: with Root, the guest powers itself off after the program.
	PowerOff bool
}
