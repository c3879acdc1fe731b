// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// reservedBytes of disk a record takes at the start, so that it can be written on a full disk too.
const reservedBytes = 4 << 10

// record is a small file that appears whole.
type record struct {
	file  *os.File
	path  string
	named bool
}

func reserve(dir, name string) *record {
	hidden := filepath.Join(dir, "."+name)
	os.Remove(hidden)
	file, err := os.OpenFile(hidden, os.O_RDWR|os.O_CREATE|os.O_EXCL, everyoneReads)
	if err != nil {
		return nil
	}
	file.Chmod(everyoneReads)
	file.Write(make([]byte, reservedBytes))
	return &record{file: file, path: filepath.Join(dir, name)}
}

func (r *record) putJSON(value any) {
	if text, err := json.Marshal(value); err == nil {
		r.put(string(text) + "\n")
	}
}

// put may be repeated; only the first time it cannot be seen half done.
func (r *record) put(text string) {
	if r == nil {
		return
	}
	if _, err := r.file.WriteAt([]byte(text), 0); err != nil {
		return
	}
	r.file.Truncate(int64(len(text)))
	if !r.named {
		r.named = os.Rename(r.file.Name(), r.path) == nil
	}
}
