// Package export_fleet_sample_readings counts the readings of each source, keeps the newest, and asks a model how far
// it is from the one before. The generated bindings call it by this name.
package export_fleet_sample_readings

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	. "go.bytecodealliance.org/pkg/wit/types"

	. "sample-agent/bindings/fleet_sample_readings"
	atomics "sample-agent/bindings/wasi_keyvalue_atomics"
	batch "sample-agent/bindings/wasi_keyvalue_batch"
	store "sample-agent/bindings/wasi_keyvalue_store"
	logging "sample-agent/bindings/wasi_logging_logging"
	nn "sample-agent/bindings/wasi_nn_errors"
	graph "sample-agent/bindings/wasi_nn_graph"
	tensor "sample-agent/bindings/wasi_nn_tensor"
)

const (
	bucketName = "readings"
	modelName  = "distance"
)

// Take takes one reading.
func Take(reading Reading) Result[Verdict, string] {
	verdict, err := take(reading)
	if err != nil {
		return Err[Verdict, string](err.Error())
	}
	return Ok[Verdict, string](verdict)
}

// Fail fails as asked.
func Fail(how Failure) {
	var taken [][]byte
	for how != FailureTrap {
		if how == FailureMemory {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = 1
			}
			taken = append(taken, block)
		}
	}
	panic(fmt.Sprintf("asked to fail, with %d blocks", len(taken)))
}

func take(reading Reading) (verdict Verdict, err error) {
	source, value := reading.Source, reading.Value
	if len(source) < 1 || len(source) > 64 {
		return verdict, errors.New("source must have 1 to 64 bytes")
	}
	if wide := float64(value); math.IsNaN(wide) || math.IsInf(wide, 0) {
		return verdict, errors.New("value must be finite")
	}
	opened := store.Open(bucketName)
	if opened.IsErr() {
		return verdict, explain(opened.Err())
	}
	bucket := opened.Ok()
	defer bucket.Drop() // handles of the host are few: give each back at once
	stored := bucket.Get("last/" + source)
	if stored.IsErr() {
		return verdict, explain(stored.Err())
	}
	before := value
	if last := stored.Ok(); last.IsSome() {
		before = number(last.Some())
	}
	score, err := distance(value, before)
	if err != nil {
		return verdict, err
	}
	count := atomics.Increment(bucket, "count/"+source, 1)
	if count.IsErr() {
		return verdict, explain(count.Err())
	}
	pairs := []Tuple2[string, []uint8]{{"last/" + source, bytes(value)}, {"score/" + source, bytes(score)}}
	if kept := batch.SetMany(bucket, pairs); kept.IsErr() {
		return verdict, explain(kept.Err())
	}
	logging.Log(logging.LevelInfo, "agent", fmt.Sprintf("reading %d of %s", count.Ok(), source))
	return Verdict{Source: source, Count: count.Ok(), Score: score}, nil
}

// distance asks the model.
func distance(value, before float32) (float32, error) {
	loaded := graph.LoadByName(modelName)
	if loaded.IsErr() {
		return 0, complain(loaded.Err())
	}
	defer loaded.Ok().Drop()
	made := loaded.Ok().InitExecutionContext()
	if made.IsErr() {
		return 0, complain(made.Err())
	}
	defer made.Ok().Drop()
	pair := tensor.MakeTensor([]uint32{1, 2}, tensor.TensorTypeFp32, append(bytes(value), bytes(before)...))
	computed := made.Ok().Compute([]Tuple2[string, *tensor.Tensor]{{"pair", pair}})
	if computed.IsErr() {
		return 0, complain(computed.Err())
	}
	score := float32(0)
	for _, output := range computed.Ok() {
		score = number(output.F1.Data())
		output.F1.Drop()
	}
	return score, nil
}

func bytes(value float32) []byte {
	return binary.LittleEndian.AppendUint32(nil, math.Float32bits(value))
}

func number(bytes []byte) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(bytes))
}

func explain(reason store.Error) error {
	switch reason.Tag() {
	case store.ErrorNoSuchStore:
		return errors.New("bucket " + bucketName + ": no such store")
	case store.ErrorAccessDenied:
		return errors.New("bucket " + bucketName + ": access denied")
	default:
		return errors.New("bucket " + bucketName + ": " + reason.Other())
	}
}

func complain(reason *nn.Error) error {
	defer reason.Drop()
	return errors.New("model " + modelName + ": " + reason.Data())
}
