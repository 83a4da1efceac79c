package volume

// ID names a volume: the index, in the cluster group's log, of the entry that created it.
// It is also the id of the volume's Raft group and the NFS fsid. Never used again.
type ID uint64

// FileID names a file of a volume: the index, in the volume's log, of the entry that created it.
// Never used again within a volume. RootID is the volume's root directory.
type FileID uint64

// RootID is the root directory of every volume, made by the volume's first checkpoint (index 1).
const RootID FileID = 1

// Handle names a file for ever, on every node, across restarts and changes of primary. Gen is
// the term in which the file was created: it tells apart two files with one id should a volume
// ever be restored to an earlier log.
type Handle struct {
	Volume ID
	File   FileID
	Gen    uint32
}

// Kind says what an Op does. The numbers are on disk and on the wire: never reuse one.
type Kind uint8

const (
	// Queries: answered by the primary from its replica, never logged.
	GetAttr  Kind = 1 // File
	Lookup   Kind = 2 // File (directory), Name; "." and ".." allowed
	Access   Kind = 3 // File, Count (RFC 1813 ACCESS3 bits asked for)
	ReadLink Kind = 4 // File
	Read     Kind = 5 // File, Offset, Count
	ReadDir  Kind = 6 // File, Offset (cookie; 0: start), Count (most entries), Size (most bytes of names and 200 per entry)
	FSStat   Kind = 7 // File
	Commit   Kind = 8 // File: attributes, for a caller who may write. There is nothing to wait for: every write that was answered is durable on a majority

	// Mutations: one log entry each.
	SetAttr Kind = 32 // File, Set, Guard
	Write   Kind = 33 // File, Offset, Data
	Create  Kind = 34 // File (directory), Name, How, Set, Verifier
	MkDir   Kind = 35 // File (directory), Name, Set
	Symlink Kind = 36 // File (directory), Name, Target, Set
	MkNod   Kind = 37 // File (directory), Name, Type, Rdev, Set
	Remove  Kind = 38 // File (directory), Name; never a directory
	RmDir   Kind = 39 // File (directory), Name
	Rename  Kind = 40 // File (from directory), Name, File2 (to directory), Name2
	Link    Kind = 41 // File (the file), File2 (directory), Name2

	// An image is written only from the nodes that have activated it (fence.go). The primary fills in
	// Nodes as it proposes. Neither changes attributes.
	Activate   Kind = 42 // File (an image), Node, Nodes
	Deactivate Kind = 43 // File, Node

	// What replicas hold is compared at one place of the log (verify.go). Only Repair changes anything,
	// and it only the objects of Nodes.
	VerifyRange Kind = 44 // File, Offset, Count: the extents from there on, of at most Count allocated bytes
	VerifyTable Kind = 45 // File, Count: at most Count inodes from File on; File 0: the remembered replies
	VerifyNote  Kind = 46 // Data: how far a verification is, for whoever leads next
	Repair      Kind = 47 // File, Offset (an extent), Verifier (index of the VerifyRange that found it), Nodes, Data (zeros follow it)
)

// Mutates reports whether k goes through the log.
func (k Kind) Mutates() bool { return k >= SetAttr }

// Limits. NameBytes and TargetBytes are Linux's (NAME_MAX, PATH_MAX less the NUL); MaxFileBytes is
// ext4's with 4 KiB blocks (2^32-1 blocks), so that every replica's file system can hold every
// object.
const (
	NameBytes    = 255
	TargetBytes  = 4095
	MaxFileBytes = 16<<40 - 4096
	MaxIOBytes   = 1 << 20 // most bytes of one Read or Write
	MaxLinks     = 65000   // ext4's EXT4_LINK_MAX
)

// FileType is a file's type, with the numbers of ftype3 (RFC 1813 §2.5).
type FileType uint8

const (
	Regular   FileType = 1
	Directory FileType = 2
	Block     FileType = 3
	Char      FileType = 4
	SymLink   FileType = 5
	Socket    FileType = 6
	FIFO      FileType = 7
)

// How says what Create does when the name exists (RFC 1813 §3.3.8, createmode3).
type How uint8

const (
	Unchecked How = 0 // an existing regular file is kept; of Set only the size is applied to it
	Guarded   How = 1 // EEXIST
	Exclusive How = 2 // EEXIST, unless the existing file was made with the same Verifier
)

// RequestID tells a retransmission from a new request. Client is a hash of the gateway's node,
// the client's address and port; XID is the RPC's; Sum is a checksum over procedure and the first
// arguments. The zero RequestID is never remembered.
type RequestID struct {
	Client   uint64
	XID, Sum uint32
}

// Cred is who asks: the caller's AUTH_SYS identity (RFC 5531 appendix A). Groups has at most 16.
// UID 0 passes every permission check, as root does on a local file system.
type Cred struct {
	UID, GID uint32
	Groups   []uint32
}

// TimeHow says how SetAttr sets a time (RFC 1813 §2.5, time_how).
type TimeHow uint8

const (
	TimeKeep   TimeHow = 0
	TimeServer TimeHow = 1 // the operation's Time
	TimeClient TimeHow = 2 // the given time
)

// SetAttrs are the attributes that an operation sets; nil and TimeKeep leave one alone. Times are
// nanoseconds since 1970.
type SetAttrs struct {
	Mode, UID, GID *uint32
	Size           *uint64
	AtimeHow       TimeHow
	MtimeHow       TimeHow
	Atime, Mtime   int64
}

// Op is one operation on a volume: what the gateway sends to the primary, and, for a mutation,
// what the log holds. Which fields count is said beside each Kind.
type Op struct {
	Kind     Kind
	How      How
	Type     FileType
	Time     int64  // nanoseconds since 1970, by the primary's clock when it proposes
	Node     uint16 // the node whose gateway sent the operation
	ID       RequestID
	Cred     Cred
	File     FileID
	File2    FileID
	Gen      uint32 // File's generation, as its handle has it: another gives ESTALE
	Gen2     uint32 // File2's
	Offset   uint64
	Count    uint32
	Size     uint32
	Name     string
	Name2    string
	Target   string
	Verifier uint64
	Rdev     [2]uint32 // major, minor
	Set      SetAttrs
	Guard    *int64   // SetAttr: the ctime, nanoseconds since 1970, that the file must have
	Nodes    []uint16 // Activate: the nodes that are in touch with the primary; Repair: those that write
	Data     []byte

	// Room, when set, is the memory that Data is the end of: Data is Room[len(Room)-len(Data):]
	// and at least MaxHeaderBytes stand before it. Encode then writes the header there, and the
	// payload is not copied.
	Room []byte

	// OnHold, when set, is called again and again while the volume has no primary and has had none
	// for a while, by whoever brings the operation there. It returns whether to wait on; false is
	// heeded only when sent is false: no node can have carried the operation out.
	OnHold func(sent bool) bool
}

// Errno is an operation's outcome, with Linux's numbers (the same on amd64 and arm64). 0 is
// success. The gateway alone turns it into an NFS status.
type Errno uint16

const (
	OK           Errno = 0
	EPERM        Errno = 1
	ENOENT       Errno = 2
	EIO          Errno = 5
	ENXIO        Errno = 6
	EACCES       Errno = 13
	EEXIST       Errno = 17
	EXDEV        Errno = 18
	ENODEV       Errno = 19
	ENOTDIR      Errno = 20
	EISDIR       Errno = 21
	EINVAL       Errno = 22
	EFBIG        Errno = 27
	ENOSPC       Errno = 28
	EROFS        Errno = 30
	EMLINK       Errno = 31
	ENAMETOOLONG Errno = 36
	ENOTEMPTY    Errno = 39
	ESTALE       Errno = 116
	EDQUOT       Errno = 122
	EBADCOOKIE   Errno = 523 // Linux's own NFS numbers (include/linux/errno.h) from here
	ENOTSUPP     Errno = 524
	ENOTSYNC     Errno = 522 // SetAttr: Guard does not match

	// EFENCED is not Linux's: the file is an image that is active on other nodes than the one the
	// operation came through. NFS clients are told NFS3ERR_IO.
	EFENCED Errno = 1024
)

// Attr are a file's attributes. Times are nanoseconds since 1970. UsedBytes counts allocated
// blocks of 4 KiB and is the same on every replica.
type Attr struct {
	File                FileID
	Gen                 uint32
	Type                FileType
	Mode                uint32 // permission, set-id and sticky bits: 07777
	Nlink, UID, GID     uint32
	SizeBytes           uint64
	UsedBytes           uint64
	Rdev                [2]uint32
	Atime, Mtime, Ctime int64
}

// Change is a file's weak cache consistency data (RFC 1813 §2.6, wcc_data): what it was before
// the operation and is after it. Before counts only when the operation is a mutation.
type Change struct {
	Known                    bool // false: no attributes (the file is not there, or is not known yet)
	HasBefore                bool
	BeforeSize               uint64
	BeforeMtime, BeforeCtime int64
	After                    Attr
}

// DirEntry is one name of a directory. Cookie is its place: larger than every earlier entry's,
// never used again in this directory, good while entries come and go.
type DirEntry struct {
	Name   string
	Cookie uint64
	Attr   Attr
}

// Result is an operation's answer. Which fields count follows the operation as in RFC 1813.
type Result struct {
	Err      Errno
	Obj      Change // the file named by File, or the one that Lookup found or a creation made; with EFENCED the image
	Dir      Change // the directory of Name (for Rename: the from directory)
	Dir2     Change // the directory of Name2
	Access   uint32
	EOF      bool
	Count    uint32 // Write: bytes written; Read: bytes read; Activate: 1 when it was active on Node before
	Verifier uint64 // ReadDir: the directory's cookie verifier
	Entries  []DirEntry
	Space    Space
	Data     []byte // Read: bytes; ReadLink: the target
}

// Space is what FSStat answers, in bytes and files.
type Space struct {
	TotalBytes uint64 `json:"total_bytes"`
	FreeBytes  uint64 `json:"free_bytes"`
	Files      uint64 `json:"files"`
}
