package contract

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/url"

	"ztm/tunnel/answer"
)

// A command of an app is one request:
//
//	GET /ztm-command?arg=ARG&arg=ARG, Upgrade: ztm-command
//
// An app that agrees (101) gets the standard input of the command as bytes, up to their end, and
// answers with frames: a byte that says what it is, four bytes with the length, the most significant
// first, and as many bytes. The frame of the status is the last. An app that answers with a page
// instead has read no input: the page is standard output and the status 0; the page of an error is
// standard error and the status 1.
const (
	Command     = "ztm-command" // in the field Upgrade
	commandPath = "/ztm-command"
	maxWords    = 32 << 10 // bytes of the target: all arguments together, escaped
)

// The kinds of frames.
const (
	Output = 1 // bytes for standard output
	Errors = 2 // bytes for standard error
	Status = 3 // one byte, the exit status
)

// frameHead is the length of what stands before the bytes of a frame.
const frameHead = 5

// CommandTarget returns the target of the request for a command. Its error is an *[answer.Error].
func CommandTarget(args []string) (*url.URL, error) {
	u := &url.URL{Path: commandPath, RawQuery: url.Values{"arg": args}.Encode()}
	if len(u.RawQuery) > maxWords {
		return nil, answer.Errorf(answer.BadRequest, "the arguments are longer than %d bytes", maxWords)
	}
	return u, nil
}

// CopyFrames writes what the frames of r hold to the two outputs, and returns the exit status. Without
// one, the app broke off.
func CopyFrames(stdout, stderr io.Writer, r io.Reader) (status int, err error) {
	for {
		var head [frameHead]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return 0, fmt.Errorf("the app ended without a status: %w", err)
		}
		n := int64(binary.BigEndian.Uint32(head[1:]))
		switch head[0] {
		case Output:
			_, err = io.CopyN(stdout, r, n)
		case Errors:
			_, err = io.CopyN(stderr, r, n)
		case Status:
			return readStatus(r, n)
		default:
			return 0, fmt.Errorf("the app sent a frame of the unknown kind %d", head[0])
		}
		if err != nil {
			return 0, err
		}
	}
}

// readStatus reads the frame that ends a command.
func readStatus(r io.Reader, n int64) (int, error) {
	var status [1]byte
	if n != int64(len(status)) {
		return 0, fmt.Errorf("the app sent a status of %d bytes", n)
	}
	_, err := io.ReadFull(r, status[:])
	return int(status[0]), err
}
