// Package identity says who a device is and verifies who a peer is.
//
// A mesh is a certificate authority ([CA]) and the devices that it admits. A device has an Ed25519
// key, named by its [ID], and a certificate that binds the key to a role: hub, or endpoint of a
// user. What a device trusts is a [Trust]: the mesh's CAs and the users that were evicted, as the
// newest signed list says. The way of one peer's certificate:
//
//	TLS handshake -> Verifier (exactly one certificate) -> Trust.Verify (signature, role, ID, dates, evictions) -> Subject
//
// There is no other way to a peer's [Subject]: sessions between agent and hub, sealed sessions
// between agents, endpoint records and permits all end in [Trust.Verify].
//
// The package reads and writes no files and opens no connections. A caller that writes a private
// key, a CA key or a permit to a file gives the file mode 0600. Types that hold a secret show none
// when they are formatted or logged.
package identity
