package clients

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Credential is what is kept of a password.
type Credential struct {
	Salt   []byte `json:"salt"`
	Rounds int    `json:"rounds"` // of PBKDF2 with HMAC-SHA-256
	Hash   []byte `json:"hash"`
}

// The rounds are few, because a router with a 500 MHz core must do them for every client it meets, and because the
// hashes lie in a file that only this user reads.
const (
	hashRounds = 10_000
	hashBytes  = 32
	saltBytes  = 16
)

// NewCredential makes what is kept of a password.
func NewCredential(password string) (Credential, error) {
	c := Credential{Salt: make([]byte, saltBytes), Rounds: hashRounds}
	rand.Read(c.Salt)
	var err error
	c.Hash, err = c.derive(password)
	return c, err
}

func (c Credential) derive(password string) ([]byte, error) {
	return pbkdf2.Key(sha256.New, password, c.Salt, c.Rounds, hashBytes)
}

// CheckCredential accepts what both SOCKS5 and HTTP Basic can carry.
func CheckCredential(user, password string) error {
	switch {
	case user == "" || len(user) > 255 || strings.ContainsAny(user, ":\x00\r\n"):
		return errors.New("a user has 1 to 255 bytes, and no colon")
	case password == "" || len(password) > 255:
		return errors.New("a password has 1 to 255 bytes")
	}
	return nil
}

// Credentials knows who may use the listeners. Without any, everybody who reaches them may.
type Credentials struct {
	busy chan struct{} // capacity 1: one derivation at a time, so that outsiders cannot take the processor
	key  []byte        // of proofs, made at the start
	none Credential    // stands in for users that do not exist

	mu     sync.Mutex
	users  map[string]Credential // guarded by mu; replaced, never changed
	proofs map[string][]byte     // guarded by mu; of passwords that were right, by user: the next check is cheap
}

// NewCredentials makes an empty set.
func NewCredentials() *Credentials {
	c := &Credentials{
		busy: make(chan struct{}, 1), key: make([]byte, sha256.Size),
		none: Credential{Salt: make([]byte, saltBytes), Rounds: hashRounds},
	}
	rand.Read(c.key)
	c.Set(nil)
	return c
}

// Set replaces all credentials.
func (c *Credentials) Set(users map[string]Credential) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users, c.proofs = maps.Clone(users), map[string][]byte{}
}

// required reports whether clients have to give a password.
func (c *Credentials) required() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.users) > 0
}

// Names lists the users, sorted.
func (c *Credentials) Names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.users))
}

// Check reports whether the password is the user's. It takes as long for a user who does not exist. A check that has to
// wait for others ends with ctx.
func (c *Credentials) Check(ctx context.Context, user, password string) bool {
	c.mu.Lock()
	known, exists := c.users[user]
	proof := c.proofs[user]
	c.mu.Unlock()
	mine := c.prove(user, password)
	if proof != nil && subtle.ConstantTimeCompare(proof, mine) == 1 {
		return true
	}
	if !exists {
		known = c.none
	}
	select {
	case c.busy <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	hash, err := known.derive(password)
	<-c.busy
	if err != nil || subtle.ConstantTimeCompare(hash, known.Hash) != 1 || !exists {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, ok := c.users[user]; ok && subtle.ConstantTimeCompare(now.Hash, known.Hash) == 1 {
		c.proofs[user] = mine
	}
	return true
}

// prove is a digest that only this process can make.
func (c *Credentials) prove(user, password string) []byte {
	m := hmac.New(sha256.New, c.key)
	m.Write([]byte(user))
	m.Write([]byte{0})
	m.Write([]byte(password))
	return m.Sum(nil)
}
