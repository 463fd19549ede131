// Package backup is the file that `ztm backup` writes: one database, with what it is, and a
// checksum or a seal.
//
//	ztm-backup 1
//	{"kind":"agent","made":UNIX,"size":N,"sha256":HEX,"seal":{...}}
//	N bytes: the database, or with a passphrase the database under AES-256-GCM
//
// The file holds private keys: it has mode 0600, and is to be kept like the device itself.
package backup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ztm/tunnel/unixtime"
)

// The kinds of failure a caller may want to tell apart.
var (
	ErrNoBackup   = errors.New("not a backup of ztm")
	ErrDamaged    = errors.New("the backup is damaged")
	ErrPassphrase = errors.New("the passphrase is wrong, or the backup is damaged")
	ErrSealed     = errors.New("the backup is sealed with a passphrase")
)

const (
	magic     = "ztm-backup 1\n"
	maxHeader = 4 << 10

	saltBytes  = 16
	iterations = 250_000 // of PBKDF2 with SHA-512: a second on a laptop's core, some on a router
	maxRounds  = 10 * iterations
	keyBytes   = 32
)

// Header says what a backup is of.
type Header struct {
	Kind   string           `json:"kind"` // "hub" or "agent"
	Made   unixtime.Seconds `json:"made"`
	Size   int64            `json:"size"` // of what follows, in bytes
	SHA256 string           `json:"sha256"`
	Seal   *Seal            `json:"seal,omitempty"` // nil: it is not sealed
}

// Seal is how a key is made of a passphrase: PBKDF2 with HMAC-SHA-512.
type Seal struct {
	Salt       []byte `json:"salt"`
	Iterations int    `json:"iterations"`
	Nonce      []byte `json:"nonce"`
}

// Encode makes a backup of a database. An empty passphrase seals nothing.
func Encode(kind string, database []byte, passphrase string, now time.Time) ([]byte, error) {
	h := Header{Kind: kind, Made: unixtime.Of(now)}
	body := database
	if passphrase != "" {
		h.Seal = &Seal{Salt: make([]byte, saltBytes), Iterations: iterations}
		rand.Read(h.Seal.Salt) // does not fail
		gcm, err := h.Seal.cipher(passphrase)
		if err != nil {
			return nil, err
		}
		h.Seal.Nonce = make([]byte, gcm.NonceSize())
		rand.Read(h.Seal.Nonce)
		body = gcm.Seal(nil, h.Seal.Nonce, database, []byte(kind))
	}
	sum := sha256.Sum256(body)
	h.Size, h.SHA256 = int64(len(body)), hex.EncodeToString(sum[:])
	head, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{[]byte(magic), head, []byte("\n"), body}, nil), nil
}

// Decode reads a backup. Errors match [ErrNoBackup], [ErrDamaged], [ErrSealed] where there is no
// passphrase, or [ErrPassphrase].
func Decode(file []byte, passphrase string) (h Header, database []byte, err error) {
	rest, ok := bytes.CutPrefix(file, []byte(magic))
	if !ok {
		return h, nil, ErrNoBackup
	}
	head, _, ok := bytes.Cut(rest[:min(len(rest), maxHeader)], []byte("\n"))
	if !ok {
		return h, nil, ErrDamaged
	}
	body := rest[len(head)+1:]
	if err := json.Unmarshal(head, &h); err != nil {
		return h, nil, fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	sum := sha256.Sum256(body)
	if h.Size != int64(len(body)) || h.SHA256 != hex.EncodeToString(sum[:]) {
		return h, nil, fmt.Errorf("%w: it is cut off or was changed", ErrDamaged)
	}
	if h.Seal == nil {
		return h, body, nil
	}
	if passphrase == "" {
		return h, nil, ErrSealed
	}
	gcm, err := h.Seal.cipher(passphrase)
	if err != nil || len(h.Seal.Nonce) != gcm.NonceSize() {
		return h, nil, fmt.Errorf("%w: its seal makes no sense", ErrDamaged)
	}
	database, err = gcm.Open(nil, h.Seal.Nonce, body, []byte(h.Kind))
	if err != nil {
		return h, nil, ErrPassphrase
	}
	return h, database, nil
}

func (s *Seal) cipher(passphrase string) (cipher.AEAD, error) {
	if len(s.Salt) != saltBytes || s.Iterations < 1 || s.Iterations > maxRounds {
		return nil, ErrDamaged
	}
	key, err := pbkdf2.Key(sha512.New, passphrase, s.Salt, s.Iterations, keyBytes)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
