package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, version 2. It has no document of its own; this is what
// go.etcd.io/bbolt/internal/common reads and writes. Integers are in the byte order of the machine.
//
//	file    = meta meta page...
//	page    = id:8 flags:2 count:2 overflow:4  elements...     4096 bytes, and 4096 more for each overflow
//	meta    = page header, then magic:4 version:4 size:4 flags:4 root:8 sequence:8 freelist:8 end:8 txid:8 sum:8
//	branch  = page header, then count times  position:4 key:4 child:8
//	leaf    = page header, then count times  flags:4 position:4 key:4 value:4
//	bucket  = root:8 sequence:8, and, where root is 0, a leaf page right here
//
// Keys and values lie behind the elements; a position counts from the beginning of its element.
const (
	pageSize     = 4096 // bytes; ours, on every machine, so that a file can be moved between them
	headerSize   = 16
	elementSize  = 16
	bucketSize   = 16
	metaSumStart = 56 // the checksum of a meta covers the bytes before it

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of an element in a leaf

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	noFreelist  = ^uint64(0)
)

const (
	// maxFile is the largest file, in bytes, that is taken for ours: a hundred times the state of a
	// hub with 10,000 agents, and within what a 32-bit machine can map.
	maxFile = 1 << 30

	// maxDepth is the deepest tree that is taken for ours. A page holds at least two children.
	maxDepth = 32
)

// verify checks that the file is a whole database that bbolt can read and write without falling
// over: bbolt itself trusts its file and would panic, or be killed by a signal when it follows a
// reference beyond the file's end, the latter also in goroutines of its own. It reads the whole
// file, by way of read and not of a mapping, so that what the disk cannot read is an error, too.
func verify(r io.ReaderAt, size int64) error {
	if size > maxFile {
		return fmt.Errorf("size is %d bytes, more than %d", size, maxFile)
	}
	m, err := chooseMeta(r)
	if err != nil {
		return err
	}
	if m.end < 2 || m.end > uint64(size)/pageSize {
		return fmt.Errorf("cut short: %d bytes of %d pages", size, m.end)
	}
	v := &verifier{r: r, used: make([]bool, m.end)}
	v.used[0], v.used[1] = true, true
	if _, err := v.tree(m.root, bounds{}, maxDepth, v.table); err != nil {
		return err
	}
	return v.freelist(m.freelist)
}

// meta is what of a meta page matters here.
type meta struct{ root, freelist, end, txid uint64 }

// chooseMeta returns the meta that bbolt will go by: of the valid ones, the one with the higher
// transaction number. One of them may be torn: that is how an interrupted commit looks.
func chooseMeta(r io.ReaderAt) (meta, error) {
	first, err0 := readMeta(r, 0)
	second, err1 := readMeta(r, pageSize)
	switch {
	case err0 != nil && err1 != nil:
		return meta{}, err0
	case err0 != nil:
		// bbolt then looks for the second one at these places, too.
		for at := int64(1024); at < pageSize; at *= 2 {
			if _, err := readMeta(r, at); err == nil {
				return meta{}, fmt.Errorf("pages of %d bytes", at)
			}
		}
		return second, nil
	case err1 != nil || first.txid > second.txid:
		return first, nil
	}
	return second, nil
}

func readMeta(r io.ReaderAt, at int64) (meta, error) {
	var b [metaSumStart + 8]byte
	if _, err := r.ReadAt(b[:], at+headerSize); errors.Is(err, io.EOF) {
		return meta{}, errors.New("too short")
	} else if err != nil {
		return meta{}, err
	}
	order := binary.NativeEndian
	sum := fnv.New64a()
	sum.Write(b[:metaSumStart])
	switch {
	case order.Uint32(b[0:]) != metaMagic:
		return meta{}, errors.New("no database begins like this")
	case order.Uint32(b[4:]) != metaVersion:
		return meta{}, fmt.Errorf("version %d of the file format", order.Uint32(b[4:]))
	case order.Uint64(b[metaSumStart:]) != sum.Sum64():
		return meta{}, errors.New("wrong checksum")
	case order.Uint32(b[8:]) != pageSize:
		return meta{}, fmt.Errorf("pages of %d bytes", order.Uint32(b[8:]))
	}
	return meta{
		root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), end: order.Uint64(b[40:]), txid: order.Uint64(b[48:]),
	}, nil
}

// verifier walks the pages of one file.
type verifier struct {
	r    io.ReaderAt
	used []bool // by page number, up to the end of the database: referenced already
}

// page is one page with its overflow.
type page struct {
	flags uint16
	count int
	data  []byte // header included
}

// bounds are what the keys of a subtree must lie in: low <= key < high. nil is no bound.
type bounds struct{ low, high []byte }

// read reads a page that is referenced for the first and only time.
func (v *verifier) read(id uint64) (page, error) {
	if id < 2 || id >= uint64(len(v.used)) {
		return page{}, fmt.Errorf("page %d is not there", id)
	}
	var header [headerSize]byte
	if _, err := v.r.ReadAt(header[:], int64(id)*pageSize); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	order := binary.NativeEndian
	if order.Uint64(header[0:]) != id {
		return page{}, fmt.Errorf("page %d says it is page %d", id, order.Uint64(header[0:]))
	}
	pages := 1 + uint64(order.Uint32(header[12:]))
	if pages > uint64(len(v.used))-id {
		return page{}, fmt.Errorf("page %d ends after the database", id)
	}
	for i := id; i < id+pages; i++ {
		if v.used[i] {
			return page{}, fmt.Errorf("page %d is used twice", i)
		}
		v.used[i] = true
	}
	p := page{
		flags: order.Uint16(header[8:]), count: int(order.Uint16(header[10:])), data: make([]byte, pages*pageSize),
	}
	if _, err := v.r.ReadAt(p.data, int64(id)*pageSize); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	return p, nil
}

// tree checks the tree below page id and returns its height; each value in it is passed to visit.
func (v *verifier) tree(id uint64, within bounds, depth int, visit func(element) error) (height int, err error) {
	if depth == 0 {
		return 0, errors.New("tree is too deep")
	}
	p, err := v.read(id)
	if err != nil {
		return 0, err
	}
	elements, err := p.elements(within)
	if err != nil {
		return 0, fmt.Errorf("page %d: %w", id, err)
	}
	if p.flags == flagLeaf {
		for _, e := range elements {
			if err := visit(e); err != nil {
				return 0, fmt.Errorf("page %d: %w", id, err)
			}
		}
		return 1, nil
	}
	if len(elements) == 0 {
		return 0, fmt.Errorf("page %d: a branch without children", id)
	}
	for i, e := range elements {
		below := bounds{e.key, within.high}
		if i+1 < len(elements) {
			below.high = elements[i+1].key
		}
		h, err := v.tree(e.child, below, depth-1, visit)
		if err != nil {
			return 0, err
		}
		if i > 0 && h != height {
			return 0, fmt.Errorf("page %d: children of different height", id)
		}
		height = h
	}
	return height + 1, nil
}

// table checks one entry of the root: a table.
func (v *verifier) table(e element) error {
	if e.flags != flagBucket || len(e.value) < bucketSize {
		return fmt.Errorf("%q is not a table", e.key)
	}
	if root := binary.NativeEndian.Uint64(e.value); root != 0 {
		_, err := v.tree(root, bounds{}, maxDepth, value)
		return err
	}
	return inline(e.value[bucketSize:])
}

// inline checks a small table, whose only page is kept in place of a reference to it.
func inline(data []byte) error {
	if len(data) < headerSize {
		return errors.New("a table without its page")
	}
	order := binary.NativeEndian
	p := page{flags: order.Uint16(data[8:]), count: int(order.Uint16(data[10:])), data: data}
	if p.flags != flagLeaf {
		return errors.New("a small table that is no leaf")
	}
	elements, err := p.elements(bounds{})
	if err != nil {
		return err
	}
	for _, e := range elements {
		if err := value(e); err != nil {
			return err
		}
	}
	return nil
}

// value checks one entry of a table.
func value(e element) error {
	if e.flags != 0 {
		return fmt.Errorf("%q is not a value", e.key)
	}
	return nil
}

// element is one entry of a page: in a branch it has a child, in a leaf flags and a value.
type element struct {
	key, value []byte
	child      uint64
	flags      uint32
}

// elements returns the entries of a branch or a leaf after checking that they lie in the page and
// are in order.
func (p page) elements(within bounds) ([]element, error) {
	if p.flags != flagBranch && p.flags != flagLeaf {
		return nil, fmt.Errorf("of unknown kind %#x", p.flags)
	}
	if p.count > (len(p.data)-headerSize)/elementSize {
		return nil, fmt.Errorf("no room for %d elements", p.count)
	}
	elements := make([]element, p.count)
	low := within.low
	for i := range elements {
		e, ok := p.element(i)
		switch {
		case !ok:
			return nil, fmt.Errorf("element %d lies outside", i)
		case len(e.key) == 0:
			return nil, fmt.Errorf("element %d has no key", i)
		case i == 0 && low != nil && !bytes.Equal(e.key, low), i > 0 && bytes.Compare(e.key, low) <= 0,
			within.high != nil && bytes.Compare(e.key, within.high) >= 0:
			return nil, fmt.Errorf("element %d is out of order", i)
		}
		low, elements[i] = e.key, e
	}
	return elements, nil
}

// element returns entry i and whether all of it lies in the page.
func (p page) element(i int) (element, bool) {
	order := binary.NativeEndian
	start := headerSize + i*elementSize
	b := p.data[start:][:elementSize]
	var e element
	var position, keyLen, valueLen uint64
	if p.flags == flagBranch {
		position, keyLen, e.child = uint64(order.Uint32(b)), uint64(order.Uint32(b[4:])), order.Uint64(b[8:])
	} else {
		e.flags, position = order.Uint32(b), uint64(order.Uint32(b[4:]))
		keyLen, valueLen = uint64(order.Uint32(b[8:])), uint64(order.Uint32(b[12:]))
	}
	key := uint64(start) + position
	if key+keyLen+valueLen > uint64(len(p.data)) {
		return element{}, false
	}
	e.key, e.value = p.data[key:][:keyLen], p.data[key+keyLen:][:valueLen]
	return e, true
}

// freelist checks the list of free pages. Only a file that was never changed has one: later it is
// found by a walk.
func (v *verifier) freelist(id uint64) error {
	if id == noFreelist {
		return nil
	}
	p, err := v.read(id)
	if err != nil {
		return err
	}
	if p.flags != flagFreelist || p.count != 0 {
		return fmt.Errorf("page %d: not the empty list of free pages", id)
	}
	return nil
}
