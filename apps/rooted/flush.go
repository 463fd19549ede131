package rooted

// Flush waits until the disk has all that was written to the file system of d: many small files cost
// one wait instead of two each. It reports whether the system can do that. Where it cannot, nothing
// was done, and each file is to be made durable by itself: see [Pending.Commit].
func (d *Dir) Flush() (done bool, err error) {
	if !flushes {
		return false, nil
	}
	f, err := d.r.Open(".")
	if err != nil {
		return false, err
	}
	defer f.Close()
	return true, flush(f.Fd())
}
