// Package wire is what HTTP/2 looks like on the wire: frames, error codes, and field sections with
// their rules (RFC 9113 sections 4, 6, 7 and 8.2). It keeps no state but that of a decoder.
package wire

import (
	"encoding/binary"
	"fmt"
)

// Frame types (RFC 9113 section 6).
const (
	FrameData         = 0x0
	FrameHeaders      = 0x1
	FramePriority     = 0x2
	FrameReset        = 0x3
	FrameSettings     = 0x4
	FramePushPromise  = 0x5
	FramePing         = 0x6
	FrameGoAway       = 0x7
	FrameWindow       = 0x8
	FrameContinuation = 0x9
)

// Flags of frames (RFC 9113 section 6).
const (
	FlagEndStream  = 0x1
	FlagAck        = 0x1
	FlagEndHeaders = 0x4
	FlagPadded     = 0x8
	FlagPriority   = 0x20
)

// Settings (RFC 9113 section 6.5.2).
const (
	SettingEnablePush    = 0x2
	SettingMaxStreams    = 0x3
	SettingInitialWindow = 0x4
	SettingMaxFrame      = 0x5
	SettingMaxFields     = 0x6
)

// Code is an error code of RFC 9113 section 7.
type Code uint32

// The error codes.
const (
	NoError            Code = 0x0
	ProtocolError      Code = 0x1
	InternalError      Code = 0x2
	FlowControlError   Code = 0x3
	SettingsTimeout    Code = 0x4
	StreamClosed       Code = 0x5
	FrameSizeError     Code = 0x6
	RefusedStream      Code = 0x7
	Cancel             Code = 0x8
	CompressionError   Code = 0x9
	ConnectError       Code = 0xa
	EnhanceYourCalm    Code = 0xb
	InadequateSecurity Code = 0xc
	HTTP11Required     Code = 0xd
)

// Error says why a connection or a stream ended.
type Error struct {
	Code   Code
	Reason string // what was wrong, for a log; not sent
	Remote bool   // the peer said so
	Stream bool   // of one stream alone
}

func (e *Error) Error() string {
	what, who := "connection", "here"
	if e.Stream {
		what = "stream"
	}
	if e.Remote {
		who = "by the peer"
	}
	if e.Reason == "" {
		return fmt.Sprintf("h2: %s ended %s with code %d", what, who, e.Code)
	}
	return fmt.Sprintf("h2: %s ended %s: %s", what, who, e.Reason)
}

// ConnError is a fault that ends the connection (RFC 9113 section 5.4.1).
func ConnError(code Code, format string, args ...any) error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// StreamError is a fault that ends its stream alone (RFC 9113 section 5.4.2).
func StreamError(code Code, format string, args ...any) error {
	return &Error{Code: code, Reason: fmt.Sprintf(format, args...), Stream: true}
}

// Sizes of frames, in bytes.
const (
	HeaderSize  = 9
	LeastFrame  = 16384       // what every peer takes (RFC 9113 section 4.2)
	MaxFrame    = 2*16384 - 9 // with its header two TLS records
	MaxFields   = 16 << 10    // a field section, encoded, and decoded with 32 bytes for each field
	maxBlocks   = 8           // frames of a field section
	MaxWindow   = 1<<31 - 1   // RFC 9113 section 6.9.1
	FirstWindow = 65535       // of a connection, and of streams before SETTINGS (RFC 9113 section 6.9.2)
	Preface     = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// Frame is the header of a frame.
type Frame struct {
	Length int
	Kind   byte
	Flags  byte
	Stream uint32
}

// Has reports whether a flag is set.
func (f Frame) Has(flag byte) bool { return f.Flags&flag != 0 }

// Parse reads the header of a frame.
func Parse(b *[HeaderSize]byte) Frame {
	return Frame{
		Length: int(b[0])<<16 | int(b[1])<<8 | int(b[2]),
		Kind:   b[3],
		Flags:  b[4],
		Stream: binary.BigEndian.Uint32(b[5:]) & MaxWindow, // the first bit is reserved
	}
}

// AppendHeader appends the header of a frame.
func AppendHeader(b []byte, length int, kind, flags byte, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

// AppendWindow appends a WINDOW_UPDATE frame.
func AppendWindow(b []byte, stream uint32, increment int64) []byte {
	b = AppendHeader(b, 4, FrameWindow, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(increment))
}

// AppendReset appends a RST_STREAM frame.
func AppendReset(b []byte, stream uint32, code Code) []byte {
	b = AppendHeader(b, 4, FrameReset, 0, stream)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// AppendGoAway appends a GOAWAY frame.
func AppendGoAway(b []byte, last uint32, code Code) []byte {
	b = AppendHeader(b, 8, FrameGoAway, 0, 0)
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// AppendPing appends a PING frame.
func AppendPing(b []byte, flags byte, payload [8]byte) []byte {
	return append(AppendHeader(b, 8, FramePing, flags, 0), payload[:]...)
}

// Setting is one setting of a SETTINGS frame.
type Setting struct {
	ID    uint16
	Value uint32
}

// AppendSettings appends a SETTINGS frame.
func AppendSettings(b []byte, list ...Setting) []byte {
	b = AppendHeader(b, 6*len(list), FrameSettings, 0, 0)
	for _, s := range list {
		b = binary.BigEndian.AppendUint16(b, s.ID)
		b = binary.BigEndian.AppendUint32(b, s.Value)
	}
	return b
}
