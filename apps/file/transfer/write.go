package transfer

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"syscall"

	"ztm/apps/rooted"
	"ztm/tunnel/answer"
)

// writing is a file that is being received.
//
//	prepare (what is here of it?) -> want -> from -> data, hole, zeros ... sum -> ... the size is reached -> commit
//
// After an error of this side the content that is on its way is dropped.
type writing struct {
	*receiver
	entry
	id   uint32
	dir  *rooted.Dir
	name rooted.Name
	path string

	out     *rooted.Pending
	there   *os.File // the file of that name, if it may be the same
	skipped bool     // nothing comes for it
	dropped bool     // what comes is dropped
	waits   bool     // for where the content begins
	at      int64
	filled  int64  // of the block that comes
	crc     uint32 // of it so far
}

// prepare tells the sender what is here of a file. refusal is why it is not wanted, or nil.
func (w *writing) prepare(refusal error) error {
	w.waits = w.large(w.o)
	if refusal == nil {
		refusal = w.look()
	}
	if refusal != nil {
		return w.refuse(refusal)
	}
	if !w.waits {
		return nil
	}
	if w.skipped {
		w.report.Files++
		w.report.Same++
		w.report.Bytes += w.Size
		w.meter.Files.Add(1)
		w.meter.Bytes.Add(w.Size)
		return errors.Join(w.send(kindSkip, binary.BigEndian.AppendUint32(nil, w.id)), w.flush())
	}
	return w.offer()
}

// look decides by what stands under the name.
func (w *writing) look() error {
	if free, ok := w.dir.Free(); ok && !w.Sparse && w.Size > small && uint64(w.Size) > free {
		return answer.Errorf(answer.Limit, "there is no room for %d bytes: %d are free beside what is kept for others", w.Size, free)
	}
	info, err := w.dir.Stat(w.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case w.o.Keep:
		return fs.ErrExist
	case w.o.Update && info.Mode().IsRegular() && info.Size() == w.Size && info.ModTime().Equal(w.changed()):
		w.skipped = true
	}
	return nil
}

// refuse notes a failure, and drops what comes.
func (w *writing) refuse(err error) error {
	w.report.add(&w.report.Failures, w.path, Reason(err))
	why := text(Reason(err))
	answered := w.waits
	w.dropped = true
	w.keep()
	if full(err) {
		return answer.Errorf(answer.Limit, "%s: %s", w.name, why)
	}
	// Before its turn, nothing at all comes for a large file that was refused.
	w.skipped = answered
	return errors.Join(w.send(kindRefused, binary.BigEndian.AppendUint32(nil, w.id), []byte(why)), w.flush())
}

// full reports whether nothing more can be written.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// key is what the temporary file of an entry is found by: the same source in the same state.
func (w *writing) key() string {
	if w.Size <= block {
		return ""
	}
	return fmt.Sprint(w.Size, w.Time)
}

// offer sends the hashes of what is here: of an earlier attempt, or of a file of the same size that
// stands under the name.
func (w *writing) offer() error {
	w.meter.Step.Store(Comparing)
	head := binary.BigEndian.AppendUint32(nil, w.id)
	f, have, whole, err := w.candidate()
	if err != nil {
		return w.refuse(err)
	}
	blocks := (have + block - 1) / block
	group := max((blocks+maxGroups-1)/maxGroups, 1)
	var hashes []byte
	for at := int64(0); at < have; at += group * block {
		hash, err := hashOf(f, at, min(at+group*block, have))
		if err != nil {
			hashes = nil // the disk does not give it back: all of it comes again
			break
		}
		hashes = append(hashes, hash[:]...)
	}
	head = binary.BigEndian.AppendUint32(head, uint32(group))
	flags := []byte{0}
	if whole {
		flags[0] = 1
	}
	return errors.Join(w.send(kindWant, head, flags, hashes), w.flush())
}

// candidate returns a file of which the beginning may be that of the one that comes, and how much of
// it.
func (w *writing) candidate() (f *os.File, have int64, whole bool, err error) {
	if w.Size <= block { // is asked about because of its time alone
		return nil, 0, false, nil
	}
	if err = w.open(); err != nil {
		return nil, 0, false, err
	}
	if have, err = w.out.Seek(0, io.SeekEnd); err != nil {
		return nil, 0, false, err
	}
	if have > 0 {
		if have < w.Size {
			have -= have % block
		}
		w.at = min(have, w.Size) // stays, unless the sender says where the content begins
		return w.out.File, w.at, false, nil
	}
	there, err := w.dir.Open(w.name)
	if err != nil {
		return nil, 0, false, nil // there is none, or it is no file: Commit will say so
	}
	if info, err := there.Stat(); err != nil || info.Size() != w.Size {
		there.Close()
		return nil, 0, false, nil
	}
	w.there = there
	return there, w.Size, true, nil
}

// take takes a frame, and reports whether the file is over.
func (w *writing) take(k kind, p []byte) (over bool, err error) {
	w.meter.Step.Store(Copying)
	switch {
	case k == kindFailed:
		w.failed(string(p))
		return true, nil
	case w.waits && k != kindFrom:
		return false, fmt.Errorf("%w: content of %v before where it begins", errProtocol, w.name)
	case k == kindFrom:
		return w.begin(int64(binary.BigEndian.Uint64(p)))
	case k == kindData:
		return w.data(p)
	case k == kindHole:
		return false, w.hole(int64(binary.BigEndian.Uint32(p)))
	case k == kindZeros:
		return w.zeros(int64(binary.BigEndian.Uint64(p)))
	case k == kindSum:
		return w.sum(p)
	}
	return false, fmt.Errorf("%w: a frame of kind %#02x within a file", errProtocol, byte(k))
}

// failed notes that the sender could not read it to its end.
func (w *writing) failed(why string) {
	w.waits = false
	if !w.dropped {
		w.report.add(&w.report.Failures, w.path, text(why))
	}
	w.keep()
}

// begin goes to where the content goes on.
func (w *writing) begin(from int64) (over bool, err error) {
	if !w.waits || from < 0 || from > w.Size || from < w.Size && from%block != 0 {
		return false, fmt.Errorf("%w: %v begins at %d", errProtocol, w.name, from)
	}
	w.waits = false
	if w.dropped {
		return from == w.Size, nil
	}
	if w.there != nil && from == w.Size && w.Size > 0 {
		w.same()
		return true, nil
	}
	if w.there != nil && from != 0 {
		return false, fmt.Errorf("%w: %v begins at %d", errProtocol, w.name, from)
	}
	w.closeThere()
	if err := w.open(); err != nil {
		return false, w.refuse(err)
	}
	have, err := w.out.Seek(0, io.SeekEnd)
	if err == nil && have < from {
		return false, fmt.Errorf("%w: %v begins behind what is here", errProtocol, w.name)
	}
	if err == nil && have > from {
		err = w.out.Truncate(from)
	}
	if err != nil {
		return false, w.refuse(err)
	}
	w.at = from
	w.report.Resumed += from
	w.meter.Bytes.Add(from)
	if w.at == w.Size && w.Size > 0 {
		return true, w.commit()
	}
	return false, nil
}

// same ends a file whose content was here already.
func (w *writing) same() {
	w.out.Discard()
	w.out = nil
	w.closeThere()
	if err := w.dir.SetAttributes(w.name, fs.FileMode(w.Mode), w.changed()); err != nil {
		w.report.add(&w.report.Failures, w.path, Reason(err))
		return
	}
	w.report.Same++
	w.complete()
}

func (w *writing) complete() {
	w.report.Files++
	w.report.Bytes += w.Size
	w.meter.Files.Add(1)
}

// open begins to write, where that has not happened.
func (w *writing) open() error {
	if w.out != nil {
		return nil
	}
	out, err := w.dir.Create(w.name, w.key(), !w.o.Keep)
	if err != nil {
		return err
	}
	w.out = out
	if info, err := out.Stat(); err != nil || info.Size() == 0 {
		w.alone()
	}
	return nil
}

// room checks that a part belongs to the block that comes, or to several whole ones.
func (w *writing) room(n int64) error {
	if n <= 0 || n > w.Size-w.at {
		return fmt.Errorf("%w: %v is longer than announced", errProtocol, w.name)
	}
	return nil
}

func (w *writing) data(p []byte) (over bool, err error) {
	n := int64(len(p))
	if err := w.room(n); err != nil {
		return false, err
	}
	if w.filled+n > block {
		return false, fmt.Errorf("%w: a block of %v without a sum", errProtocol, w.name)
	}
	if !w.dropped {
		w.crc = crc32.Update(w.crc, castagnoli, p)
		err := w.open()
		if err == nil {
			_, err = w.out.WriteAt(p, w.at)
		}
		if err != nil {
			if err := w.refuse(err); err != nil {
				return false, err
			}
		}
	}
	w.at += n
	w.filled += n
	w.meter.Bytes.Add(n)
	return false, nil
}

func (w *writing) hole(n int64) error {
	if err := w.room(n); err != nil {
		return err
	}
	if w.filled+n > block {
		return fmt.Errorf("%w: a block of %v without a sum", errProtocol, w.name)
	}
	zero := make([]byte, min(n, small))
	for left := n; left > 0 && !w.dropped; left -= int64(len(zero)) {
		zero = zero[:min(left, int64(len(zero)))]
		w.crc = crc32.Update(w.crc, castagnoli, zero)
	}
	w.at += n
	w.filled += n
	w.meter.Bytes.Add(n)
	return nil
}

// zeros leaves whole blocks out of the file: they read as zeros.
func (w *writing) zeros(n int64) (over bool, err error) {
	if err := w.room(n); err != nil {
		return false, err
	}
	if w.filled != 0 || n%block != 0 && w.at+n < w.Size {
		return false, fmt.Errorf("%w: zeros within a block of %v", errProtocol, w.name)
	}
	w.at += n
	w.meter.Bytes.Add(n)
	if w.at == w.Size {
		return true, w.commit()
	}
	return false, nil
}

// sum ends a block.
func (w *writing) sum(p []byte) (over bool, err error) {
	if w.filled < block && w.at < w.Size || w.Size > 0 && w.filled == 0 {
		return false, fmt.Errorf("%w: a sum within a block of %v", errProtocol, w.name)
	}
	w.filled = 0
	if !w.dropped && binary.BigEndian.Uint32(p) != w.crc {
		return false, fmt.Errorf("%w: what came of %v is damaged", errProtocol, w.name)
	}
	w.crc = 0
	if w.at < w.Size {
		return false, nil
	}
	return true, w.commit()
}

// commit gives the file its name.
func (w *writing) commit() error {
	if w.dropped {
		return nil
	}
	err := w.open()
	if err == nil {
		err = w.out.Truncate(w.Size) // a hole at the end
	}
	if err == nil {
		// Thousands of small files cannot wait for the disk one by one. An old content can.
		err = w.out.Commit(fs.FileMode(w.Mode), w.changed(), !w.o.volatile && (w.Size > block || w.out.Replaces()))
	}
	if err != nil {
		w.report.add(&w.report.Failures, w.path, Reason(err))
		w.keep()
		if full(err) {
			return answer.Errorf(answer.Limit, "%s: %s", w.name, Reason(err))
		}
		return nil
	}
	w.out = nil
	w.complete()
	return nil
}

// keep leaves what has come for the next attempt; of a small file there is none.
func (w *writing) keep() {
	w.closeThere()
	if w.out == nil {
		return
	}
	whole := w.at - w.at%block // w.at stays: what is dropped is counted, too
	if w.key() == "" || whole == 0 || w.out.Truncate(whole) != nil {
		w.out.Discard()
	} else {
		w.out.Keep()
	}
	w.out = nil
}

func (w *writing) closeThere() {
	if w.there != nil {
		w.there.Close()
		w.there = nil
	}
}

func decode(p []byte, v any) error {
	if err := json.Unmarshal(p, v); err != nil {
		return fmt.Errorf("%w: %v", errProtocol, err)
	}
	return nil
}
