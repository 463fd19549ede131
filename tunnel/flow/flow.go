// Package flow is one flow between two agents: a byte stream that half-closes in both directions,
// or datagrams, as a net.Conn.
//
//	entrance                                                           exit
//	Write, ReadFrom -> request body  -> DATA … FINAL_DATA       ->  Read, WriteTo
//	Read, WriteTo   <- response body <- DATA … FINAL_DATA       <-  Write, ReadFrom
//	                                    DATA … MOVED | dedicated connection: see offload
//
// It lies in the two bodies of one HTTP/2 request, as capsules (package capsule), so that each
// direction ends by itself: net/http cannot half-close a response. A body that ends without
// FINAL_DATA was cut off, and its reader gets [io.ErrUnexpectedEOF].
//
// There is no queue in here: what is not read stays in HTTP/2's windows, and a reader that stops
// makes the writer stop.
//
//	conn.go      Conn: what a flow is, whatever carries it
//	offload.go   when and how it leaves its session
//	stall.go     what nobody reads leaves, too
//	http.go      Open and Accept: a request of net/http becomes a Conn
//	request.go, response.go   the writing direction at the entrance, at the exit
//	session.go   Session: what an agent needs of whatever leads to a peer
package flow

import "io"

// Early gives the first bytes of the writing direction while the flow is being opened.
type Early interface {
	// Read is as that of an io.Reader. Its end, or a failure, ends the early part and not the
	// direction.
	io.Reader

	// Stop makes Read return, now and from now on, and returns how many bytes it has given.
	Stop() int
}
