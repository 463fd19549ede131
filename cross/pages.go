package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
)

// packPages adds to replace where the pages of the console are compressed, of which it writes copies to
// dir. In the repository, and in a binary that is built without an overlay, they are text. agent/web
// serves both. 115 KB of linux/amd64
func packPages(replace map[string]string, dir, root string) error {
	files, err := filepath.Glob(filepath.Join(root, "agent", "web", "pages", "*"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("there are no pages of the console below %s", root)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return err
		}
		z.Write(text) // to memory
		if err := z.Close(); err != nil {
			return err
		}
		replace[file] = filepath.Join(dir, "page-"+filepath.Base(file))
		if err := os.WriteFile(replace[file], packed.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
