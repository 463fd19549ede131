// Package process runs a program on this endpoint for a peer. Its streams, size, signals and exit
// status travel over one flow, and nothing of it is left when the flow is lost. The apps terminal
// and script are built on it.
//
//	caller's stdin, terminal, signals                                   caller's stdout, stderr, exit status
//	   |  Drive (client.go)                                                  ^
//	   v                                                                     |
//	 frames ------------------------- one flow, sealed ---------------------- frames
//	   |  Session.Attach (attach.go)                                         ^
//	   v                                                                     |
//	 input (input.go) -> child's stdin or terminal;  child's output -> Session.emit (session.go)
//
// # Frames
//
// Both directions of the flow are a sequence of frames. A frame is a kind (1 byte), the length of
// its payload (3 bytes, big-endian) and the payload. A kind that is unknown, that travels the wrong
// way or whose length is out of its bounds ends the flow. From the caller:
//
//	0x01 start    JSON, at most 1 MiB; what to run, defined by the app; once, first
//	0x02 source   1 to 65,536 bytes: text that belongs to start; as many as start announced
//	0x03 stdin    1 to 65,536 bytes, never more than the window
//	0x04 eof      empty: stdin has ended; on a terminal it types the end-of-file character
//	0x05 resize   columns (2 bytes, big-endian), rows (2 bytes)
//	0x06 signal   1 to 8 letters: INT, TERM, HUP, QUIT, KILL, USR1, USR2, TSTP or CONT, to the process group, or on a
//	              terminal to its foreground group
//
// To the caller:
//
//	0x81 started  JSON [Started], at most 16 KiB; the program runs
//	0x82 stdout   1 to 65,536 bytes; a terminal has this alone
//	0x83 stderr   1 to 65,536 bytes
//	0x84 window   4 bytes, big-endian: so many more bytes of stdin may be sent
//	0x85 exit     JSON [Exit], at most 16 KiB; last
//	0x86 failed   JSON answer.Error, at most 16 KiB: nothing was started; last
//
// The window is 1 MiB when a program is started, and 0 when a caller returns to a running one. It
// bounds what is stored for a program that does not read, so that frames behind it (a signal, a
// resize) are always read. Output has no window: a caller that does not read stops the flow, and so
// the program.
//
// # The end of a program
//
// A program is the leader of its own session (setsid). When it ends by itself, what it left running
// goes on, as after ssh: on a terminal what the program had in the foreground gets SIGHUP; through
// pipes the flow lasts until every holder of stdout and stderr has gone. When the flow is lost, a
// limit is reached, the app stops, or a program on pipes ended after the caller sent it a signal to
// end, every process of the session gets SIGHUP and SIGCONT, and after [grace] SIGKILL. A process
// that made a session of its own escapes this, as it escapes every other way to end a session. On
// Windows the program is in a job object: nothing escapes, and nothing goes on.
package process

import (
	"time"

	"ztm/apps"
)

// Window is how many bytes of stdin may be on the way to a program that does not read.
const Window = 1 << 20

// grace is what a session has to end by itself after SIGHUP.
const grace = 3 * time.Second

// Size is the size of a terminal in characters. Zero stands for unknown.
type Size struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// Started is what the caller learns when the program runs.
type Started struct {
	Session string     `json:"session,omitempty"` // to return to it; empty where the app keeps none
	Program apps.Bytes `json:"program"`           // the path of the program
}

// Exit is the end of a program.
type Exit struct {
	Status int    `json:"status"`           // of exit(3), or 128 + the number of the signal
	Signal string `json:"signal,omitempty"` // without SIG: "KILL"
	Reason string `json:"reason,omitempty"` // why the endpoint ended it; empty if it ended by itself
}

// StatusTimeout is the status of a program that ran out of its time, as of timeout(1).
const StatusTimeout = 124
