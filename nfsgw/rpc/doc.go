// Package rpc speaks ONC RPC version 2 (RFC 5531) over TCP: record marking, credentials, bounded
// concurrent dispatch, replies in any order. It also holds the XDR primitives (RFC 4506) that the
// protocols above are coded with, a small client, and the port mapper (RFC 1833).
//
// It must never panic on what a peer sent, never hold more memory for peers than its Options
// say, and never answer one request with another's reply. It knows nothing of NFS.
//
// Floor 0: imports nothing of trinas.
package rpc
