package nfsgw

import (
	"github.com/willscott/go-nfs"

	"trinas/replica/volume"
)

// statusOf turns an operation's outcome into an NFS status (RFC 1813 §2.6). This is the only
// place that does. An outcome that is not listed is a bug below: SERVERFAULT.
func statusOf(e volume.Errno) nfs.NFSStatus {
	switch e {
	case volume.OK:
		return nfs.NFSStatusOk
	case volume.EPERM:
		return nfs.NFSStatusPerm
	case volume.ENOENT:
		return nfs.NFSStatusNoEnt
	case volume.EIO, volume.EFENCED:
		return nfs.NFSStatusIO
	case volume.ENXIO:
		return nfs.NFSStatusNXIO
	case volume.EACCES:
		return nfs.NFSStatusAccess
	case volume.EEXIST:
		return nfs.NFSStatusExist
	case volume.EXDEV:
		return nfs.NFSStatusXDev
	case volume.ENODEV:
		return nfs.NFSStatusNoDev
	case volume.ENOTDIR:
		return nfs.NFSStatusNotDir
	case volume.EISDIR:
		return nfs.NFSStatusIsDir
	case volume.EINVAL:
		return nfs.NFSStatusInval
	case volume.EFBIG:
		return nfs.NFSStatusFBig
	case volume.ENOSPC:
		return nfs.NFSStatusNoSPC
	case volume.EROFS:
		return nfs.NFSStatusROFS
	case volume.EMLINK:
		return nfs.NFSStatusMlink
	case volume.ENAMETOOLONG:
		return nfs.NFSStatusNameTooLong
	case volume.ENOTEMPTY:
		return nfs.NFSStatusNotEmpty
	case volume.ESTALE:
		return nfs.NFSStatusStale
	case volume.EDQUOT:
		return nfs.NFSStatusDQuot
	case volume.EBADCOOKIE:
		return nfs.NFSStatusBadCookie
	case volume.ENOTSUPP:
		return nfs.NFSStatusNotSupp
	case volume.ENOTSYNC:
		return nfs.NFSStatusNotSync
	}
	return nfs.NFSStatusServerFault
}

// mountStatusOf is the same for MOUNT, which knows fewer (RFC 1813 §5.1.5).
func mountStatusOf(s nfs.NFSStatus) nfs.MountStatus {
	switch s {
	case nfs.NFSStatusOk:
		return nfs.MountStatusOk
	case nfs.NFSStatusPerm:
		return nfs.MountStatusErrPerm
	case nfs.NFSStatusNoEnt, nfs.NFSStatusStale: // the volume or directory went meanwhile
		return nfs.MountStatusErrNoEnt
	case nfs.NFSStatusIO:
		return nfs.MountStatusErrIO
	case nfs.NFSStatusAccess:
		return nfs.MountStatusErrAcces
	case nfs.NFSStatusNotDir:
		return nfs.MountStatusErrNotDir
	case nfs.NFSStatusInval:
		return nfs.MountStatusErrInval
	case nfs.NFSStatusNameTooLong:
		return nfs.MountStatusErrNameTooLong
	case nfs.NFSStatusNotSupp:
		return nfs.MountStatusErrNotSupp
	}
	return nfs.MountStatusErrServerFault
}
