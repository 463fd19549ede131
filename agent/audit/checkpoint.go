package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"ztm/tunnel/identity"
)

// Entry is what an output of the log gets: a line or a checkpoint.
type Entry struct {
	Line *Line  // nil for a checkpoint; not to be changed
	Text []byte // as it is written, without an end of line; not to be changed
}

// Checkpoint is signed by the endpoint's key and stands behind the line that it is about. Who has it
// knows that nobody without the key has changed, left out or added lines before it. It proves
// nothing against who holds the key, unless it was kept elsewhere.
type Checkpoint struct {
	V          int         `json:"v"`
	Seq        uint64      `json:"checkpoint"` // of the line
	Hash       string      `json:"hash"`       // of the line, as a next line's Prev would have it
	Time       string      `json:"time"`
	EndpointID identity.ID `json:"epId"`
	Key        []byte      `json:"key"` // the endpoint's public key, which the ID is the hash of
	Sig        []byte      `json:"sig"`
}

func (c Checkpoint) statement() []byte {
	return fmt.Appendf(nil, "ztm audit checkpoint v1\n%s\n%d\n%s\n%s", c.EndpointID, c.Seq, c.Hash, c.Time)
}

// check verifies a checkpoint by itself.
func (c Checkpoint) check() error {
	if len(c.Key) != ed25519.PublicKeySize || identity.IDOf(c.Key) != c.EndpointID {
		return fmt.Errorf("its key is not that of endpoint %s", c.EndpointID)
	}
	if !ed25519.Verify(c.Key, c.statement(), c.Sig) {
		return fmt.Errorf("its signature is wrong")
	}
	return nil
}

// Out has put called with each line and checkpoint from now on; nil ends that. put must neither wait
// nor call the Log.
func (l *Log) Out(put func(Entry)) {
	l.mu.Lock()
	l.out = put
	l.mu.Unlock()
}

// Checkpoint gives the output a checkpoint of the last line, if there is a new line since the one
// before.
func (l *Log) Checkpoint(key ed25519.PrivateKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil || l.seq == l.signed {
		return
	}
	_, id := l.config.Self()
	c := Checkpoint{V: Version, Seq: l.seq, Hash: l.prev, Time: stamp(l.config.Now()), EndpointID: id, Key: key.Public().(ed25519.PublicKey)}
	c.Sig = ed25519.Sign(key, c.statement())
	b, err := json.Marshal(c)
	if err != nil {
		panic("audit: internal error: " + err.Error()) // strings and numbers always are JSON
	}
	l.signed = l.seq
	l.out(Entry{Text: b})
}

// hashOf is the hash of a line as it is written, as the next one names it.
func hashOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
