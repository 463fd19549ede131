// Package flow is one flow between two agents: a byte stream that half-closes in both directions,
// or datagrams, as a net.Conn.
//
//	entrance                                                          exit
//	Write, ReadFrom  ->  stream of the session, each direction      -> Read, WriteTo, Deliver
//	Read, WriteTo    <-  ends by itself | dedicated connection:     <- Write, ReadFrom
//	                     see offload
//
// A stream of bytes is the bodies of one HTTP/2 request as they are. A direction that ends with
// END_STREAM has ended; a stream that is reset was cut off. Datagrams are capsules in those bodies
// (package capsule); beside the session they may have a way of their own.
//
// There is no queue in here: what is not read stays in the window of the flow's own stream, and a
// reader that stops makes the writer stop.
//
//	open.go      Open and Accept: a request becomes a Conn
//	conn.go      Conn: what a flow is, whatever carries it
//	offload.go   when and how it leaves its session
//	beside.go    how datagrams go beside the session
//	session.go   Session: what an agent needs of whatever leads to a peer
package flow

import "io"

// Early gives the first bytes of the writing direction while the flow is being opened.
type Early interface {
	// Read is as that of an io.Reader. Its end, or a failure, ends the early part and not the
	// direction.
	io.Reader

	// Stop makes Read return, now and from now on, and returns how many bytes it has given. It may
	// be called more than once, from any goroutine.
	Stop() int
}
