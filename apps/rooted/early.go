//go:build !ztm_router

package rooted

// A router has no disk that could be faster than what comes, and no room for this.

// early is how much is written until the disk begins with it, in bytes. Without that the disk stands
// idle while a large file comes, and Commit waits until all of it is written.
const early = 16 << 20

// Write writes to where the file stands. As WriteAt it may be called from several goroutines.
func (p *Pending) Write(b []byte) (int, error) {
	n, err := p.File.Write(b)
	p.wrote(n)
	return n, err
}

// WriteAt writes at an offset.
func (p *Pending) WriteAt(b []byte, at int64) (int, error) {
	n, err := p.File.WriteAt(b, at)
	p.wrote(n)
	return n, err
}

// wrote counts what was written. What the disk does not take it tells when it is waited for.
func (p *Pending) wrote(n int) {
	if p.fresh.Add(int64(n)) >= early {
		p.fresh.Store(0)
		begin(p.Fd())
	}
}
