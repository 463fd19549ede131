// Package directory holds the endpoints of a mesh: the records that they signed, their names, and
// which of them are online.
//
//	directory.go   what a hub asks of a directory
//	local.go       the directory of a single hub: in memory, and in its database
//	names.go       names that became free are kept for their users
//	listing.go     pages
//	copies.go      records that came from other hubs
//	saver.go       brings changed rows to disk
//
// A hub is trusted with availability alone, and so is a directory: each record is signed by its
// endpoint, and each reader verifies it again. The directory itself adds, and could lie about,
// which record is newest, which endpoints are online, and who has a name.
//
// Several hubs of one mesh tell each other the records of endpoints that are attached to them, or
// they share a directory. That is another implementation of [Directory], which passes the suite of
// package directorytest.
package directory

import (
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// Directory is what a hub asks of a directory. All methods are safe for concurrent use. Errors that
// the asking endpoint may see are *[answer.Error].
type Directory interface {
	// Put adds an endpoint, or replaces its record by one that is not older. The caller has
	// verified the record: doc is the signed form, and subject the endpoint that signed it. It
	// returns when the record is on disk; a record that says nothing new is not written. A name
	// that another endpoint has, or that is kept for another user, is a [answer.Conflict], and so
	// is an older record.
	Put(doc []byte, record identity.Record, subject identity.Subject) error

	// Remove removes the endpoints that match which, ends their attachments, and returns their
	// number once the removal is on disk. Where keep is true their names are kept for their users.
	// which must not block and not call the directory.
	Remove(keep bool, which func(identity.Subject) bool) (removed int, err error)

	// Attach makes an endpoint online, at an address as the hub sees it, until detach is called,
	// which may happen more than once. Only one device has the key of an endpoint, so a later
	// Attach of the same endpoint takes over. end is called then, and when the endpoint is removed.
	// end must not block and not call the directory. An endpoint without a record is a
	// [answer.Conflict].
	Attach(id identity.ID, address string, end func()) (detach func(), err error)

	// Entry returns what the directory says of an endpoint. One that is not there is a
	// [answer.NotFound].
	Entry(id identity.ID) (tunnel.Entry, error)

	// Name returns the name of an endpoint; "" if it is not there.
	Name(id identity.ID) string

	// Check returns what is known of a name that an endpoint wants.
	Check(name string, id identity.ID) *tunnel.NameCheck

	// List returns one page of the endpoints that match, sorted by name.
	List(f Filter) tunnel.Page

	// Signers returns the endpoints of a user that are online and whose records say that they hold
	// the CA key, those that are attached here first.
	Signers(user string) []identity.ID

	// Size returns how many endpoints there are, and how many of them are online.
	Size() (all, online int)

	// Elsewhere makes the directory show what other hubs see of endpoints. It is called once, before
	// the directory is used. seen must not block and not call the directory.
	Elsewhere(self identity.ID, seen Seen)

	// Run brings changes to disk until stop is closed, and then the changes made before that. Put
	// and Remove fail after that.
	Run(stop <-chan struct{})
}

// Seen returns where other hubs see an endpoint: an address, the hubs, and whether it is online at
// any of them.
type Seen func(id identity.ID) (address string, hubs []identity.ID, online bool)

// Filter narrows a listing. The zero value matches every endpoint.
type Filter struct {
	Name, User, Offer, Keyword string // "" is any; a keyword is looked for in the name and the labels
	Online                     bool   // only those
	Offset, Limit              int    // Limit 0: as many as a page takes
}

// Limits bound a directory. All are set.
type Limits struct {
	Endpoints   int           // in all
	OfUser      int           // endpoints of one user
	PageBytes   int           // of the records of a page
	NameKept    time.Duration // for which a name that became free is kept
	NamesOfUser int           // names that are kept for one user
}
