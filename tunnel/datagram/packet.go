package datagram

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"sync/atomic"
)

// A packet is
//
//	counter 8 | sealed: flow 4, payload | tag 16
//
// with integers in network order. AES-256-GCM seals it, with four zero bytes and the counter as its
// nonce: each direction has a key of its own, and no counter comes twice.
const (
	counterSize = 8
	flowSize    = 4
	tagSize     = 16
	overhead    = counterSize + flowSize + tagSize
	maxPacket   = overhead + MaxPayload
)

// Sizes of this package, in bytes.
const (
	// KeySize is how long a key is.
	KeySize = 32

	// MaxPayload is the longest payload: with the headers of UDP and IPv6 the packet has less than the
	// 1,280 bytes that any path passes whole (RFC 8200 section 5).
	MaxPayload = 1200
)

// maxPackets is how many packets one key seals: with 75 blocks each the sum is far from what makes
// AES-GCM distinguishable (RFC 9001 appendix B.1.1 has the reasoning).
const maxPackets = 1 << 28

// Keys are those of one path, of [KeySize] bytes.
type Keys struct{ Send, Receive []byte }

func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != KeySize {
		return nil, errors.New("datagram: a key has 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce is that of a counter.
func nonce(counter []byte) (n [12]byte) {
	copy(n[4:], counter)
	return n
}

// sealer makes packets. It is safe for concurrent use.
type sealer struct {
	aead cipher.AEAD
	last atomic.Uint64 // counter
}

// append appends the packet of a payload to b, which has room for it. It reports false where the
// key has sealed as much as it may.
func (s *sealer) append(b []byte, flow uint32, payload []byte) ([]byte, bool) {
	counter := s.last.Add(1)
	if counter > maxPackets {
		return b, false
	}
	start := len(b)
	b = binary.BigEndian.AppendUint64(b, counter)
	n := nonce(b[start:])
	sealed := len(b)
	b = append(binary.BigEndian.AppendUint32(b, flow), payload...)
	return s.aead.Seal(b[:sealed], n[:], b[sealed:], nil), true
}

// opener reads packets. It is for one goroutine.
type opener struct {
	aead cipher.AEAD
	seen window
}

// open opens a packet in place. It reports false for what is no packet of the peer, and for one that
// has come before.
func (o *opener) open(b []byte) (flow uint32, payload []byte, ok bool) {
	if len(b) < overhead || len(b) > maxPacket {
		return 0, nil, false
	}
	counter := binary.BigEndian.Uint64(b)
	if !o.seen.fresh(counter) {
		return 0, nil, false
	}
	n := nonce(b[:counterSize])
	plain, err := o.aead.Open(b[counterSize:counterSize], n[:], b[counterSize:], nil)
	if err != nil {
		return 0, nil, false
	}
	o.seen.note(counter) // only now: a forged packet moves no window
	return binary.BigEndian.Uint32(plain), plain[flowSize:], true
}

// window knows which counters have come, by RFC 6479: a ring of blocks, of which the newest is never
// full, so that moving on clears whole blocks. The zero value has seen none.
type window struct {
	last uint64
	bits [windowBlocks]uint64
}

const (
	windowBlocks = 32
	windowSize   = (windowBlocks - 1) * 64 // packets that may come late
)

// fresh reports whether a counter has not come, and is not too old to know. None is 0.
func (w *window) fresh(counter uint64) bool {
	switch {
	case counter == 0 || counter > maxPackets:
		return false
	case counter > w.last:
		return true
	case w.last-counter >= windowSize:
		return false
	}
	return w.bits[counter/64%windowBlocks]&(1<<(counter%64)) == 0
}

// note notes a counter that is fresh.
func (w *window) note(counter uint64) {
	if counter > w.last {
		for block := w.last/64 + 1; block <= counter/64 && block <= w.last/64+windowBlocks; block++ {
			w.bits[block%windowBlocks] = 0
		}
		w.last = counter
	}
	w.bits[counter/64%windowBlocks] |= 1 << (counter % 64)
}
