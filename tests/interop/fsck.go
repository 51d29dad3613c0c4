// Tessera's fsck over the published files of a log: checkpoint, every bundle, every tile, the root.
//
//	fsck FOLDER VKEY
//
// Ends with 0 if all of it is right. tests/interop.sh builds it from Debian's packages.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: fsck FOLDER VKEY")
		os.Exit(2)
	}
	// What is wrong is the error; the rest is progress.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	if err := check(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("the log is whole")
}

func check(folder, vkey string) error {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	files := client.FileFetcher{Root: folder}
	return fsck.New(verifier.Name(), verifier, files, leafHashes, fsck.Opts{N: 1}).Check(context.Background())
}

func leafHashes(bundle []byte) ([][]byte, error) {
	var entries api.EntryBundle
	if err := entries.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(entries.Entries))
	for _, entry := range entries.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}
