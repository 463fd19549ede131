package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"ztm/store/etcd"
)

// Trust is the trust list that is in force at a hub.
type Trust interface {
	// Document is the signed list; nil before the first.
	Document() []byte

	// Take verifies a list that etcd has, and puts it in force if it is to be. A list that is not
	// taken because it has not all that is in force here goes to holders of the CA key.
	Take(doc []byte) error

	// Follows reports whether a hub that has one list takes the next in its place.
	Follows(old, next []byte) bool
}

// head says which list counts. The list itself is in pieces, as a value has a limit of 1.5 MB, in
// base64.
type head struct {
	Sum    string `json:"sum"` // SHA-256 of the list
	Pieces int    `json:"pieces"`
}

const (
	pieceSize  = 1 << 20
	mostPieces = 8
)

func (d *Directory) pieceKey(sum string, i int) string {
	return fmt.Sprintf("%s%s%s/%d", d.prefix, docPart, sum, i)
}

func sumOf(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}

// readTrust reads the list that counts, and the revision of its head; nil if there is none.
func (d *Directory) readTrust(ctx context.Context) (doc []byte, h head, revision int64, err error) {
	kv, err := d.c.Client.Get(ctx, d.prefix+headKey)
	if err != nil || kv.Revision == 0 {
		return nil, h, 0, err
	}
	if err := json.Unmarshal(kv.Value, &h); err != nil || h.Pieces < 1 || h.Pieces > mostPieces || len(h.Sum) != 2*sha256.Size {
		return nil, h, kv.Revision, errBadTrust
	}
	if own := d.c.Trust.Document(); own != nil && sumOf(own) == h.Sum {
		return own, h, kv.Revision, nil
	}
	for i := range h.Pieces {
		piece, err := d.c.Client.Get(ctx, d.pieceKey(h.Sum, i))
		if err != nil {
			return nil, h, 0, err
		}
		doc = append(doc, piece.Value...)
	}
	if sumOf(doc) != h.Sum { // it is not whole, or was replaced meanwhile
		return nil, h, kv.Revision, errBadTrust
	}
	return doc, h, kv.Revision, nil
}

var errBadTrust = errors.New("cluster: what etcd has as the trust list is none")

// syncTrust takes the list that etcd has, and brings the own one if that is newer. What is in etcd
// and is not a list is replaced: it was not etcd's to decide what a list is.
func (d *Directory) syncTrust(ctx context.Context) error {
	doc, _, _, err := d.readTrust(ctx)
	if err != nil && !errors.Is(err, errBadTrust) {
		return err
	}
	if doc != nil {
		if err := d.c.Trust.Take(doc); err != nil {
			d.refuse()
			d.c.Log.Warn("the trust list of the store is not taken", "err", err)
		}
	}
	return d.Agree(ctx, nil)
}

// agreeOrFork is syncTrust where two lists that are to be united are no reason to wait: each hub goes
// on with its own, and with all else that etcd has.
func (d *Directory) agreeOrFork(ctx context.Context) error {
	err := d.syncTrust(ctx)
	if errors.Is(err, errFork) {
		return nil
	}
	return err
}

// Changed says that another list is in force here. Etcd hears of it at the next sign of life.
func (d *Directory) Changed() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *Directory) refuse() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Refused++
}

// Agree makes a list the one that counts, if it follows that one; nil is the list in force here. It
// returns nil when the list in etcd is that one or a later one, and an error if that is not known: other hubs that
// can be reached have the list all the same, by their links.
func (d *Directory) Agree(ctx context.Context, own []byte) error {
	if !d.isReady() {
		return errNotReady
	}
	if own == nil {
		own = d.c.Trust.Document()
	}
	for range mostTries {
		if own == nil {
			return nil
		}
		doc, old, revision, err := d.readTrust(ctx)
		if err != nil && !errors.Is(err, errBadTrust) {
			return err
		}
		if bytes.Equal(doc, own) || doc != nil && d.c.Trust.Follows(own, doc) {
			return nil
		}
		if doc != nil && !d.c.Trust.Follows(doc, own) {
			return errFork
		}
		if done, err := d.publish(ctx, own, old, revision); err != nil || done {
			return err
		}
	}
	return errFork
}

// errFork says that neither of two lists has all that the other has. Holders of the CA key unite
// them.
var errFork = errors.New("cluster: the trust list of the store and that of this hub are to be united by a holder of the CA key")

// publish writes the pieces of a list, and then that it counts. The pieces of the one before go with
// that.
func (d *Directory) publish(ctx context.Context, doc []byte, old head, revision int64) (done bool, err error) {
	next := head{Sum: sumOf(doc), Pieces: (len(doc) + pieceSize - 1) / pieceSize}
	for i := range next.Pieces {
		key, piece := d.pieceKey(next.Sum, i), doc[i*pieceSize:min(len(doc), (i+1)*pieceSize)]
		r, err := d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: key}}, Then: []etcd.Op{etcd.Put(key, piece, 0)}})
		if err != nil {
			return false, err
		}
		if was := r.Found[key]; !r.Done && !bytes.Equal(was.Value, piece) { // somebody else has written what it is not
			if _, err := d.c.Client.Txn(ctx, etcd.Txn{If: []etcd.Condition{{Key: key, Revision: was.Revision}}, Then: []etcd.Op{etcd.Put(key, piece, 0)}}); err != nil {
				return false, err
			}
		}
	}
	b, err := json.Marshal(next)
	if err != nil {
		return false, err
	}
	txn := etcd.Txn{If: []etcd.Condition{{Key: d.prefix + headKey, Revision: revision}}, Then: []etcd.Op{etcd.Put(d.prefix+headKey, b, 0)}}
	if old.Sum != next.Sum {
		for i := range min(old.Pieces, mostPieces) {
			txn.Then = append(txn.Then, etcd.Delete(d.pieceKey(old.Sum, i)))
		}
	}
	r, err := d.c.Client.Txn(ctx, txn)
	return r.Done || bytes.Equal(r.Found[d.prefix+headKey].Value, b), err
}
