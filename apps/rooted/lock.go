package rooted

import "os"

// Lock takes a file for this process alone, until the file is closed. It fails at once where another
// process has it. File systems without locks have none.
func Lock(f *os.File) error { return lock(f) }
