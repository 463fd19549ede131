package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// manual returns the pages for man, one for each command, compressed as Debian has them. The program
// itself writes them, which is run as it is for this machine.
func manual(ctx context.Context, root, scratch string) (pages []artifact, err error) {
	dir := filepath.Join(scratch, "man")
	if _, err := output(ctx, root, "go", "run", ".", "__man", dir); err != nil {
		return nil, fmt.Errorf("manual pages: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("manual pages: there are none in %s", dir)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		var packed bytes.Buffer
		z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is one
		z.Write(text)
		if err := z.Close(); err != nil {
			return nil, err
		}
		pages = append(pages, artifact{filepath.Base(f) + ".gz", packed.Bytes()})
	}
	return pages, err
}

// manualEntries are the pages below a directory for them.
func (r Release) manualEntries(below string) (entries []entry) {
	for _, p := range r.Manual {
		entries = append(entries, file(below+"/man1/"+p.name, 0o644, p.data))
	}
	return entries
}
