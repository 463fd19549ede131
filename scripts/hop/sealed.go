package hop

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"io"
	"sync"
)

// The outer two of sealed hops are the least that a sealed path can be made of with the standard
// library: they read, seal or open with AES-GCM, and write. There is one key for all, no handshake,
// no session and no second flow: what ztm takes above it is what ztm is, what it takes above plain
// hops is the copy out of the kernel, the cipher and the copy back.
//
//	client -> plain in, sealed out -> plain hop -> sealed in, plain out -> server

// A record is its length in two bytes and the sealed text: as much as TLS puts into one, and as
// many at once as ztm takes.
const (
	recordText = 16 << 10
	recordAll  = 2 + recordText + 16
	records    = 32
)

func gcm() (aead cipher.AEAD, nonce []byte) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err) // a key of 16 bytes is one
	}
	if aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
	return aead, make([]byte, aead.NonceSize())
}

// Buffers outlive connections.
var (
	textRooms   = sync.Pool{New: func() any { return new([records * recordText]byte) }}
	sealedRooms = sync.Pool{New: func() any { return new([records * recordAll]byte) }}
)

// Seal reads, seals and writes.
func Seal(dst io.Writer, src io.Reader) {
	aead, nonce := gcm()
	in, room := textRooms.Get().(*[records * recordText]byte), sealedRooms.Get().(*[records * recordAll]byte)
	defer textRooms.Put(in)
	defer sealedRooms.Put(room)
	for {
		n, err := src.Read(in[:])
		out := room[:0]
		for text := in[:n]; len(text) > 0; {
			m := min(len(text), recordText)
			out = binary.BigEndian.AppendUint16(out, uint16(m+aead.Overhead()))
			out = aead.Seal(out, nonce, text[:m], nil)
			text = text[m:]
		}
		if _, werr := dst.Write(out); werr != nil || err != nil {
			return
		}
	}
}

// Open undoes Seal.
func Open(dst io.Writer, src io.Reader) {
	aead, nonce := gcm()
	in, room := sealedRooms.Get().(*[records * recordAll]byte), textRooms.Get().(*[records * recordText]byte)
	defer sealedRooms.Put(in)
	defer textRooms.Put(room)
	for have := 0; ; {
		n, err := src.Read(in[have:])
		rest := in[:have+n]
		out := room[:0]
		for len(rest) >= 2 && len(rest)-2 >= int(binary.BigEndian.Uint16(rest)) {
			size := 2 + int(binary.BigEndian.Uint16(rest))
			var oerr error
			if out, oerr = aead.Open(out, nonce, rest[2:size], nil); oerr != nil {
				return
			}
			rest = rest[size:]
		}
		have = copy(in[:], rest)
		if _, werr := dst.Write(out); werr != nil || err != nil {
			return
		}
	}
}
