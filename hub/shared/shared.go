// Package shared opens what the hubs of a mesh decide together, where they have a store.
//
//	shared.go    what a hub asks of it
//	cluster.go   etcd
//	omitted.go   builds without it
package shared

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"ztm/hub/directory"
	"ztm/store"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/metric"
	"ztm/tunnel/unixtime"
)

// Store says where hubs decide together who has a name: an etcd. The zero value is no store: the hub
// decides alone, or with the hubs that it is linked to.
type Store struct {
	Endpoints []string // https://HOST:PORT
	CA        string   // file with the CA of etcd's certificates
	Cert, Key string   // files of this hub's certificate for etcd
	User      string   // file with USER:PASSWORD; "" for none
}

func (s *Store) given() bool { return len(s.Endpoints) > 0 }

// Config is what a hub brings.
type Config struct {
	Store     Store
	DB        *store.DB // of the hub
	Mesh, Hub identity.ID
	CA        string // PEM of the CA that the trust list is read by
	Verifier  *identity.Verifier

	// Take takes a trust list as if a hub had brought it.
	Take func(doc []byte, from identity.Subject) error

	Limits directory.Limits
	Log    *slog.Logger
}

// Directory is a directory that hubs share, and what else they decide.
type Directory interface {
	directory.Directory

	// Agree makes a trust list the one that counts; nil is the one in force. An error says that it is
	// not known to be.
	Agree(ctx context.Context, doc []byte) error

	// Changed says that another list is in force here.
	Changed()

	// Spend uses a join token that is good for so many keys for one of them. For one more it is an
	// error of [identity.ErrToken], and so it is for one made before the store was restored. After any
	// other error the same key may ask again.
	Spend(ctx context.Context, nonce string, key []byte, uses int, made, expires time.Time) error

	// Spent returns by how many keys a token was used, and whether it is void.
	Spent(ctx context.Context, nonce string) (tunnel.TokenUse, error)

	// Void has a token be used by no other key.
	Void(ctx context.Context, nonce string, expires time.Time) error

	// AddMetrics adds what there is to say of the store.
	AddMetrics(w *metric.Writer)
}

// agreeTime is how long an endpoint waits until hubs agree on a trust list.
const agreeTime = 2 * time.Second

// Open opens the directory of a hub. Shared is nil if there is no store.
func Open(c Config) (_ directory.Directory, shared Directory, err error) {
	if c.Store.given() {
		if shared, err = open(c); err != nil {
			return nil, nil, err
		}
		return shared, shared, nil
	}
	was, err := leave(c.DB, c.Mesh)
	if err != nil {
		return nil, nil, err
	}
	if was {
		c.Log.Warn("this hub had a store (--store), and goes on with its copy of it: other hubs with that store do not hear of what changes here")
	}
	local, err := directory.Open(c.DB, c.Limits, c.Verifier.Clock().Now)
	return local, nil, err
}

// Book is what a hub has of tokens by itself.
type Book interface {
	// Redeem uses a token for a key: this hub decides. Note does for one that was decided elsewhere.
	Redeem(i identity.Invitation, key []byte, now unixtime.Seconds) error
	Note(i identity.Invitation, key []byte, now unixtime.Seconds) error
}

// Redeem uses a join token for a key. One that is the hub's own is decided by its book, and told to the
// store where there is one: a hub that comes back from a backup does not redeem it a second time. One
// of all hubs is decided by the store, and noted in the book. shared may be nil.
func Redeem(ctx context.Context, shared Directory, book Book, i identity.Invitation, own bool, key []byte, now time.Time) error {
	steps := []func() error{
		func() error { return book.Redeem(i, key, unixtime.Of(now)) },
		func() error { return spend(ctx, shared, i, time.Time{}, key) },
	}
	if !own {
		steps = []func() error{
			func() error { return spend(ctx, shared, i, i.Admitted, key) },
			func() error { return book.Note(i, key, unixtime.Of(now)) },
		}
	}
	for _, step := range steps {
		err := step()
		if errors.Is(err, identity.ErrToken) {
			return answer.Errorf(answer.Denied, "%v", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// spend uses a token for a key in the store, if there is one. made is zero where the store need not know
// all of it.
func spend(ctx context.Context, shared Directory, i identity.Invitation, made time.Time, key []byte) error {
	if shared == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTime)
	defer cancel()
	err := shared.Spend(ctx, i.Nonce, key, i.Uses, made, i.Expires)
	if err == nil || errors.Is(err, identity.ErrToken) {
		return err
	}
	return answer.Errorf(answer.Unavailable, "tokens cannot be redeemed now: the store of the hubs does not answer")
}

// Spent returns what is known of a token where there is a store. shared may be nil.
func Spent(ctx context.Context, shared Directory, nonce string) (tunnel.TokenUse, error) {
	if shared == nil {
		return tunnel.TokenUse{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTime)
	defer cancel()
	use, err := shared.Spent(ctx, nonce)
	if err != nil {
		return use, answer.Errorf(answer.Unavailable, "nothing can be said of tokens now: the store of the hubs does not answer")
	}
	return use, nil
}

// Void has a token be used by no other key, where there is a store. shared may be nil.
func Void(ctx context.Context, shared Directory, nonce string, expires time.Time) error {
	if shared == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTime)
	defer cancel()
	if shared.Void(ctx, nonce, expires) != nil {
		return answer.Errorf(answer.Unavailable, "the token is not void at every hub yet, as the store of the hubs does not answer: try again")
	}
	return nil
}

// Agree makes the list in force the one that counts, and reports whether it is. shared may be nil.
func Agree(ctx context.Context, shared Directory, log *slog.Logger) bool {
	if shared == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTime)
	defer cancel()
	err := shared.Agree(ctx, nil)
	if err != nil {
		log.Warn("hubs do not agree on a trust list yet", "err", err)
	}
	return err == nil
}

// AgreeFirst is for a list with another CA: two successors of one CA would make two meshes, so it is
// in force nowhere before the store has decided for it. Evictions do not wait. What is wrong with a
// list is said by whoever takes it. shared may be nil.
func AgreeFirst(ctx context.Context, shared Directory, now *identity.Trust, doc []byte) error {
	if shared == nil {
		return nil
	}
	next, err := now.Update(doc)
	if err != nil || next.Newest() == now.Newest() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, agreeTime)
	defer cancel()
	if err := shared.Agree(ctx, doc); err != nil {
		return answer.Errorf(answer.Unavailable, "the CA cannot be replaced now: the store of the hubs does not answer")
	}
	return nil
}
