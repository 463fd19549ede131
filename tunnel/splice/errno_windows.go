package splice

import "golang.org/x/sys/windows"

// errNotConnected is what shutting down a connection gives that its peer has reset.
const errNotConnected = windows.WSAENOTCONN
