// Checks what the audit log publishes with the libraries of Go's checksum database, which nobody of this project wrote.
//
// Reads one JSON document from standard input and prints one line; exits with 1 at the first thing that does not verify.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index int64
	Leaf  string
	Proof []string
}

type consistency struct {
	Size  int64
	Root  string
	Proof []string
}

type document struct {
	Vkey        string
	Checkpoint  string
	Inclusion   []inclusion
	Consistency []consistency
}

func check(err error, what string) {
	if err != nil {
		fmt.Println("refused:", what+":", err)
		os.Exit(1)
	}
}

func decode(text string) []byte {
	data, err := base64.StdEncoding.DecodeString(text)
	check(err, "base64")
	return data
}

func hash(text string) (result tlog.Hash) {
	data := decode(text)
	if len(data) != len(result) {
		check(fmt.Errorf("%d bytes", len(data)), "hash")
	}
	copy(result[:], data)
	return
}

func hashes(texts []string) (result []tlog.Hash) {
	for _, text := range texts {
		result = append(result, hash(text))
	}
	return
}

func main() {
	var input document
	check(json.NewDecoder(os.Stdin).Decode(&input), "input")
	verifier, err := note.NewVerifier(input.Vkey)
	check(err, "vkey")
	opened, err := note.Open([]byte(input.Checkpoint), note.VerifierList(verifier))
	check(err, "checkpoint")
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		check(fmt.Errorf("%q", lines[0]), "origin")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err, "size")
	root := hash(lines[2])
	for _, each := range input.Inclusion {
		leaf := tlog.RecordHash(decode(each.Leaf))
		check(tlog.CheckRecord(hashes(each.Proof), size, root, each.Index, leaf), "inclusion")
	}
	for _, each := range input.Consistency {
		check(tlog.CheckTree(hashes(each.Proof), size, root, each.Size, hash(each.Root)), "consistency")
	}
	fmt.Printf("verified: size %d, %d signatures, %d inclusion proofs, %d consistency proofs\n",
		size, len(opened.Sigs), len(input.Inclusion), len(input.Consistency))
}
