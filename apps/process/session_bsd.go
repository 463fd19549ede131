//go:build darwin || freebsd

package process

// exited waits until the program has ended. Here that takes its zombie away, too.
func (c *child) exited() { c.wait() }
