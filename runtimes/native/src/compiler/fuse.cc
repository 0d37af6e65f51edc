// Fusion. A step begins where rows come from memory or from a convolution, and goes on for as long as one pointwise
// operation follows another on the same channels with everything else that it needs at hand. Signs are made, and values
// that others need are stored, on the way.
#include <algorithm>

#include "compiler/byte_curve.h"
#include "compiler/lower.h"
#include "compiler/pack.h"

namespace bihrnet {
namespace {

class Fusion {
 public:
  Fusion(Lowered* lowered, Program* program)
      : ops_(std::move(lowered->ops)), details_(lowered->details), program_(*program) {}

  void Run();

 private:
  void CutPointwise();
  void CutForward();
  void Index();
  void FindOperands();
  int ResizeOf(PlaneRef plane, int channels) const;
  ChainOp Link(RangeOp* op, bool carries_first);
  void Emit(int index);
  Step Begin(const RangeOp& op);
  void Extend(Step* step, PlaneRef current, int channels);
  int NextOf(const std::vector<int>& readers, PlaneRef current, int channels) const;
  bool Available(PlaneRef plane, int channels) const;
  void FuseEpilogue(Step* step) const;
  void FuseByteEpilogue(Step* step) const;

  std::vector<RangeOp> ops_;
  std::vector<Step>& details_;
  Program& program_;
  std::vector<std::vector<int>> readers_;  // by value: operations that read it
  std::vector<std::vector<int>> writers_;
  std::vector<bool> emitted_;
  std::vector<bool> operand_;          // resizes that are no step: each of their readers resizes as it reads
  std::vector<int> resize_of_detail_;  // index into Program::resizes
};

bool IsPointwise(const RangeOp& op) { return op.kind == StepKind::kRead && !op.sign; }

// Channels [from, to) of an operation.
RangeOp Cut(const RangeOp& op, int from, int to) {
  RangeOp part = op;
  part.first = op.first + from;
  part.channels = to - from;
  part.channel_offset = op.channel_offset + from;
  for (PlaneRef& input : part.inputs) input.plane += from;
  if (op.kind == StepKind::kBconv) part.inputs = op.inputs;  // every output channel reads all of its input
  const auto cut = [&](const auto& whole, ptrdiff_t each, auto* piece) {
    if (!whole.empty()) piece->assign(whole.begin() + each * from, whole.begin() + each * to);
  };
  cut(op.constants, 1, &part.constants);
  cut(op.map, 256, &part.map);
  cut(op.thresholds, 1, &part.thresholds);
  cut(op.always, 1, &part.always);
  return part;
}

std::vector<RangeOp> CutAll(RangeOp op, const std::vector<int>& boundaries) {
  std::vector<RangeOp> parts;
  int from = 0;
  for (const int to : boundaries) {
    if (to > from && to < op.channels) {
      parts.push_back(Cut(op, from, to));
      from = to;
    }
  }
  parts.push_back(from == 0 ? std::move(op) : Cut(op, from, op.channels));
  return parts;
}

// A value that one node alone reads, in parts, is best made in those parts: each then stays in its step.
void Fusion::CutPointwise() {
  std::vector<std::vector<const RangeOp*>> readers(program_.values.size());
  std::vector<std::vector<RangeOp>> results(ops_.size());
  for (size_t i = ops_.size(); i-- > 0;) {
    RangeOp& op = ops_[i];
    std::vector<int> boundaries;
    if (op.value >= 0 && (IsPointwise(op) || op.kind == StepKind::kBconv)) {
      const auto& list = readers[static_cast<size_t>(op.value)];
      const bool one_node = std::all_of(list.begin(), list.end(), [&](const RangeOp* reader) {
        return IsPointwise(*reader) && reader->node == list.front()->node;
      });
      if (one_node) {
        for (const RangeOp* reader : list) {
          for (const PlaneRef& input : reader->inputs) {
            if (input.value != op.value) continue;
            boundaries.push_back(input.plane - op.first);
            boundaries.push_back(input.plane + reader->channels - op.first);
          }
        }
        std::sort(boundaries.begin(), boundaries.end());
      }
    }
    // The kernels compute whole quads of a convolution.
    const bool whole_quads =
        op.kind != StepKind::kBconv ||
        std::all_of(boundaries.begin(), boundaries.end(), [](int boundary) { return boundary % kQuad == 0; });
    results[i] = CutAll(std::move(op), whole_quads ? boundaries : std::vector<int>{});
    for (const RangeOp& part : results[i]) {
      for (const PlaneRef& input : part.inputs) readers[static_cast<size_t>(input.value)].push_back(&part);
    }
  }
  std::vector<RangeOp> cut;
  for (std::vector<RangeOp>& parts : results) std::move(parts.begin(), parts.end(), std::back_inserter(cut));
  ops_ = std::move(cut);
}

// What follows a value on the same channels goes on in the parts that the value is made in. Of two operands it is the
// one made last that counts: that one's step can carry on. Signs are cut only into whole nibbles.
void Fusion::CutForward() {
  std::vector<std::vector<int>> boundaries(program_.values.size());
  std::vector<size_t> made(program_.values.size(), 0);
  std::vector<RangeOp> cut;
  for (RangeOp& op : ops_) {
    std::vector<int> at;
    if (op.kind == StepKind::kRead) {
      const PlaneRef input = *std::max_element(op.inputs.begin(), op.inputs.end(), [&](PlaneRef a, PlaneRef b) {
        return made[static_cast<size_t>(a.value)] < made[static_cast<size_t>(b.value)];
      });
      for (const int boundary : boundaries[static_cast<size_t>(input.value)]) {
        const int channel = boundary - input.plane;
        if (channel > 0 && channel < op.channels) at.push_back(channel);
      }
    }
    std::sort(at.begin(), at.end());
    if (op.sign && std::any_of(at.begin(), at.end(), [](int channel) { return channel % kQuad != 0; })) at.clear();
    for (RangeOp& part : CutAll(std::move(op), at)) {
      cut.push_back(std::move(part));
      if (cut.back().value < 0) continue;
      boundaries[static_cast<size_t>(cut.back().value)].push_back(cut.back().first);
      made[static_cast<size_t>(cut.back().value)] = cut.size();
    }
  }
  ops_ = std::move(cut);
}

void Fusion::Index() {
  readers_.assign(program_.values.size(), {});
  writers_.assign(program_.values.size(), {});
  for (size_t i = 0; i < ops_.size(); ++i) {
    const RangeOp& op = ops_[i];
    for (const PlaneRef& input : op.inputs) {
      std::vector<int>& list = readers_[static_cast<size_t>(input.value)];
      if (list.empty() || list.back() != static_cast<int>(i)) list.push_back(static_cast<int>(i));
    }
    if (op.value >= 0) writers_[static_cast<size_t>(op.value)].push_back(static_cast<int>(i));
  }
  emitted_.assign(ops_.size(), false);
}

bool Overlap(int a, int a_count, int b, int b_count) { return a < b + b_count && b < a + a_count; }

bool Fusion::Available(PlaneRef plane, int channels) const {
  for (const int writer : writers_[static_cast<size_t>(plane.value)]) {
    const RangeOp& op = ops_[static_cast<size_t>(writer)];
    if (!Overlap(op.first, op.channels, plane.plane, channels)) continue;
    if (operand_[static_cast<size_t>(writer)] ? !Available(op.inputs[0], op.channels)
                                              : !emitted_[static_cast<size_t>(writer)]) {
      return false;
    }
  }
  return true;
}

// The resize among operand_ that makes these channels, or -1.
int Fusion::ResizeOf(PlaneRef plane, int channels) const {
  for (const int writer : writers_[static_cast<size_t>(plane.value)]) {
    const RangeOp& op = ops_[static_cast<size_t>(writer)];
    if (operand_[static_cast<size_t>(writer)] && op.first <= plane.plane &&
        plane.plane + channels <= op.first + op.channels) {
      return writer;
    }
  }
  return -1;
}

// A resized tensor that only sums and products read need not be written: enlarging a row in the first cache costs less
// than reading a large one from the second. The other operand must not be such a tensor, as a step begins with it.
void Fusion::FindOperands() {
  operand_.assign(ops_.size(), false);
  resize_of_detail_.assign(details_.size(), -1);
  for (size_t i = 0; i < ops_.size(); ++i) {
    const RangeOp& op = ops_[i];
    if (op.kind != StepKind::kResize) continue;
    // What has the same size may be the very rows that a step writes.
    const auto geometry = [&](int value) { return program_.values[static_cast<size_t>(value)].geometry; };
    if (geometry(op.value) == geometry(op.inputs[0].value)) continue;
    const std::vector<int>& readers = readers_[static_cast<size_t>(op.value)];
    operand_[i] = std::all_of(readers.begin(), readers.end(), [&](int index) {
      const RangeOp& reader = ops_[static_cast<size_t>(index)];
      const bool sum = reader.addition >= 0 || reader.op == Pointwise::kAdd || reader.op == Pointwise::kSub ||
                       reader.op == Pointwise::kMul;
      if (!IsPointwise(reader) || !sum || reader.inputs.size() != 2) return false;
      const bool first = reader.inputs[0].value == op.value;
      const PlaneRef own = reader.inputs[first ? 0 : 1], other = reader.inputs[first ? 1 : 0];
      if (other.value == op.value || ResizeOf(other, reader.channels) >= 0) return false;
      return !Overlap(own.plane, reader.channels, op.first, op.channels) ||
             (own.plane >= op.first && own.plane + reader.channels <= op.first + op.channels);
    });
  }
}

bool Same(PlaneRef a, PlaneRef b) { return a.value == b.value && a.plane == b.plane; }

// The operation that carries on with exactly these channels, or -1.
int Fusion::NextOf(const std::vector<int>& readers, PlaneRef current, int channels) const {
  for (const int reader : readers) {
    const RangeOp& op = ops_[static_cast<size_t>(reader)];
    if (!IsPointwise(op) || op.channels != channels) continue;
    if (op.inputs.size() == 1) {
      if (Same(op.inputs[0], current)) return reader;
      continue;
    }
    const bool first = Same(op.inputs[0], current), second = Same(op.inputs[1], current);
    if (first == second) continue;
    const PlaneRef other = op.inputs[first ? 1 : 0];
    // What this step itself makes, in whatever part, is not at hand before the step is over.
    if (other.value != current.value && Available(other, channels)) return reader;
  }
  return -1;
}

void Fusion::Extend(Step* step, PlaneRef current, int channels) {
  for (;;) {
    std::vector<int> others;
    for (const int reader : readers_[static_cast<size_t>(current.value)]) {
      RangeOp& op = ops_[static_cast<size_t>(reader)];
      if (emitted_[static_cast<size_t>(reader)]) continue;
      const bool reads =
          op.kind == StepKind::kStore || std::any_of(op.inputs.begin(), op.inputs.end(), [&](PlaneRef input) {
            return input.value == current.value && Overlap(input.plane, op.channels, current.plane, channels);
          });
      if (!reads) continue;
      if (op.sign && op.channels == channels && Same(op.inputs[0], current)) {
        ChainOp sign;
        sign.kind = ChainOp::Kind::kSign;
        sign.plane = {op.value, op.first / kQuad};
        sign.constants = std::move(op.constants);
        sign.thresholds = std::move(op.thresholds);
        sign.always = std::move(op.always);
        step->chain.push_back(std::move(sign));
        emitted_[static_cast<size_t>(reader)] = true;
      } else {
        others.push_back(reader);
      }
    }
    const int next = NextOf(others, current, channels);
    if (others.size() > (next >= 0 ? 1u : 0u)) {
      ChainOp store;
      store.kind = ChainOp::Kind::kStore;
      store.plane = current;
      step->chain.push_back(store);
      program_.values[static_cast<size_t>(current.value)].stored = true;
    }
    if (next < 0) return;
    RangeOp& op = ops_[static_cast<size_t>(next)];
    step->chain.push_back(Link(&op, Same(op.inputs[0], current)));
    emitted_[static_cast<size_t>(next)] = true;
    current = {op.value, op.first};
  }
}

// A pointwise operation on rows that hold its first operand, or its second; its constants move along.
ChainOp Fusion::Link(RangeOp* op, bool carries_first) {
  ChainOp link;
  link.op = op->op;
  link.constants = std::move(op->constants);
  link.map = std::move(op->map);
  link.addition = op->addition;
  link.carries_second = !carries_first;
  if (op->inputs.size() < 2) return link;
  link.plane = op->inputs[carries_first ? 1 : 0];
  if (!carries_first && op->op == Pointwise::kSub) link.op = Pointwise::kRsub;
  const int writer = ResizeOf(link.plane, op->channels);
  if (writer < 0) return link;
  const RangeOp& resize = ops_[static_cast<size_t>(writer)];
  link.plane = {resize.inputs[0].value, resize.inputs[0].plane + link.plane.plane - resize.first};
  int& index = resize_of_detail_[static_cast<size_t>(resize.detail)];
  if (index < 0) {
    index = static_cast<int>(program_.resizes.size());
    program_.resizes.push_back(details_[static_cast<size_t>(resize.detail)].resize);
  }
  link.resize = index;
  return link;
}

Step Fusion::Begin(const RangeOp& op) {
  Step step;
  if (op.kind == StepKind::kBconv) {
    // Weights are the bulk of a program: they move, and are copied only where a convolution is divided.
    Step& whole = details_[static_cast<size_t>(op.detail)];
    step.name = whole.name;
    step.channels = whole.channels;
    step.macs = whole.macs;
    const bool undivided = op.channel_offset == 0 && static_cast<size_t>(op.channels) == whole.bconv.multiplier.size();
    step.bconv = undivided ? std::move(whole.bconv) : SliceBconv(whole.bconv, op.channel_offset, op.channels);
  } else if (op.detail >= 0) {
    step = details_[static_cast<size_t>(op.detail)];
  }
  step.kind = op.kind;
  if (!op.inputs.empty()) step.source = op.inputs[0];
  if (op.value >= 0) {
    step.geometry = program_.values[static_cast<size_t>(op.value)].geometry;
    step.bytes = step.bytes || program_.values[static_cast<size_t>(op.value)].bytes;
  }
  switch (op.kind) {
    case StepKind::kBconv:
      step.name += ", " + std::to_string(step.channels) + ">" + std::to_string(op.channels);
      step.macs *= op.channels;
      step.channels = op.channels;
      break;
    case StepKind::kRegrid:
    case StepKind::kStore:
    case StepKind::kStoreBits:
      break;
    default:
      step.channels = op.channels;
  }
  return step;
}

void Fusion::Emit(int index) {
  RangeOp& op = ops_[static_cast<size_t>(index)];
  emitted_[static_cast<size_t>(index)] = true;
  Step step = Begin(op);
  switch (op.kind) {
    case StepKind::kStore:
    case StepKind::kStoreBits:
      break;
    case StepKind::kRegrid:
    case StepKind::kBinaryPool:
    case StepKind::kLoadBits:
    case StepKind::kLoadWords:
      step.target = {op.value, op.kind == StepKind::kBinaryPool ? op.first / kQuad : op.first};
      program_.values[static_cast<size_t>(op.value)].stored = true;
      break;
    case StepKind::kRead: {
      if (op.sign) {
        ChainOp sign;
        sign.kind = ChainOp::Kind::kSign;
        sign.plane = {op.value, op.first / kQuad};
        sign.constants = std::move(op.constants);
        sign.thresholds = std::move(op.thresholds);
        sign.always = std::move(op.always);
        step.bytes = program_.values[static_cast<size_t>(op.inputs[0].value)].bytes;
        step.chain.push_back(std::move(sign));
        break;
      }
      const bool first = ResizeOf(op.inputs[0], op.channels) < 0;
      if (!first) step.source = op.inputs[1];
      step.chain.push_back(Link(&op, first));
      Extend(&step, {op.value, op.first}, op.channels);
      break;
    }
    default:
      Extend(&step, {op.value, op.first}, op.channels);
  }
  for (const ChainOp& link : step.chain) {
    if (link.kind == ChainOp::Kind::kSign) program_.values[static_cast<size_t>(link.plane.value)].stored = true;
  }
  if (step.kind == StepKind::kBconv) step.bytes ? FuseByteEpilogue(&step) : FuseEpilogue(&step);
  int stores = 0;
  for (const ChainOp& link : step.chain) {
    if (link.kind == ChainOp::Kind::kStore) ++stores, step.direct = link.plane;
    if (link.kind == ChainOp::Kind::kPointwise) step.direct = {};
  }
  if (stores != 1) step.direct = {};
  step.name = NameOf(step);
  program_.steps.push_back(std::move(step));
}

// The kernels' epilogue takes a PRELU and two additions along with the multiplier and bias.
void Fusion::FuseEpilogue(Step* step) const {
  size_t taken = 0;
  const auto is = [&](Pointwise op) {
    return taken < step->chain.size() && step->chain[taken].kind == ChainOp::Kind::kPointwise &&
           step->chain[taken].op == op;
  };
  // Zero padding corrects accumulators that the kernels' epilogue would already have turned into floats.
  if (!step->bconv.tap_sums.empty()) return;
  if (is(Pointwise::kPrelu) && step->chain[taken].plane.value < 0) step->bconv.alpha = step->chain[taken++].constants;
  for (size_t i = 0; i < 2; ++i) {
    if (!is(Pointwise::kAdd) || step->chain[taken].plane.value < 0) continue;
    step->bconv.residuals[i] = step->chain[taken].plane;
    step->bconv.residual_resizes[i] = step->chain[taken++].resize;
  }
  step->chain.erase(step->chain.begin(), step->chain.begin() + static_cast<ptrdiff_t>(taken));
}

// The byte that an accumulator becomes may be mapped on, which is one function of the accumulator, and two bytes added.
void Fusion::FuseByteEpilogue(Step* step) const {
  if (!step->bconv.tap_sums.empty()) return;
  size_t taken = 0;
  const auto is = [&](const auto& what) {
    return taken < step->chain.size() && step->chain[taken].kind == ChainOp::Kind::kPointwise &&
           what(step->chain[taken]);
  };
  const bool maps = is([](const ChainOp& link) { return !link.map.empty(); });
  SetByteCurves(&step->bconv, step->channels, maps ? step->chain[taken].map : std::vector<int8_t>{});
  if (maps) ++taken, step->bconv.maps = true;
  const auto plain = [&](const ChainOp& link) {
    return link.addition >= 0 &&
           program_.additions[static_cast<size_t>(link.addition)].kind == ByteAddition::Kind::kSaturated;
  };
  for (size_t i = 0; i < 2; ++i) {
    if (!is(plain)) continue;
    step->bconv.residuals[i] = step->chain[taken].plane;
    step->bconv.residual_resizes[i] = step->chain[taken++].resize;
  }
  step->chain.erase(step->chain.begin(), step->chain.begin() + static_cast<ptrdiff_t>(taken));
}

void Fusion::Run() {
  CutPointwise();
  CutForward();
  Index();
  FindOperands();
  for (size_t i = 0; i < ops_.size(); ++i) {
    if (operand_[i]) emitted_[i] = true;
    if (!emitted_[i]) Emit(static_cast<int>(i));
  }
  SetLevels(&program_);
  for (const Step& step : program_.steps) {
    program_.weight_bytes += (step.bconv.weights.size() + step.conv.weights.size()) * sizeof(uint16_t);
    program_.weight_bytes += step.words.conv.weights.size() * sizeof(float);
  }
}

}  // namespace

void Fuse(Lowered* lowered, Program* program) {
  *program = std::move(lowered->program);
  Fusion(lowered, program).Run();
}

}  // namespace bihrnet
