//go:build unix

package splice

import "syscall"

// errNotConnected is what shutting down a connection gives that its peer has reset.
const errNotConnected = syscall.ENOTCONN
