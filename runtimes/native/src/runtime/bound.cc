#include "runtime/bound.h"

#include "compiler/byte_curve.h"

namespace bihrnet {

BoundProgram::BoundProgram(Program* program, uint8_t* arena) : program_(*program), arena_(arena) {
  size_t links = 0, floats = 0;
  for (const Step& step : program->steps) {
    links += step.chain.size();
    floats += step.bconv.multiplier.size() + step.bconv.bias.size() + step.bconv.alpha.size();
    for (const ChainOp& op : step.chain) floats += op.constants.size();
  }
  steps_.reserve(program->steps.size());
  links_.reserve(links);
  operands_.reserve(links);
  floats_.reserve(floats);
  for (Step& step : program->steps) BindStep(&step);
}

Planes BoundProgram::PlanesOf(PlaneRef plane) const {
  if (plane.value < 0) return {};
  const Value& value = ValueOf(plane);
  return {arena_ + value.offset + static_cast<size_t>(plane.plane) * value.plane_bytes + value.margin,
          value.plane_bytes};
}

Operand BoundProgram::OperandOf(PlaneRef plane, int resize) const {
  if (plane.value < 0) return {};
  return {PlanesOf(plane), resize >= 0 ? &program_.resizes[static_cast<size_t>(resize)] : nullptr,
          GeometryOf(ValueOf(plane).geometry).pitch};
}

const float* BoundProgram::Take(std::vector<float>* values) {
  if (values->empty()) return nullptr;
  const size_t first = floats_.size();
  floats_.insert(floats_.end(), values->begin(), values->end());
  std::vector<float>().swap(*values);
  return &floats_[first];
}

void BoundProgram::AppendSign(ChainOp* op) {
  const Value& value = ValueOf(op->plane);
  Link link;
  link.kind = Link::Kind::kSign;
  link.constants = Take(&op->constants);
  if (!op->thresholds.empty()) {
    link.thresholds = op->thresholds.data();
    link.always = op->always.data();
  }
  link.target = PlanesOf(op->plane);
  link.margin = static_cast<uint32_t>(value.margin);
  link.margin_back = static_cast<uint32_t>(value.plane_bytes - value.margin) -
                     static_cast<uint32_t>(GeometryOf(value.geometry).pixels);
  links_.push_back(link);
}

// Additions in a row, and a multiplication by constants after them, read every operand in one pass.
void BoundProgram::AppendPointwise(ChainOp* op, bool first) {
  const bool planes = op->plane.value >= 0;
  Link* last = first ? nullptr : &links_.back();
  const bool open =
      last != nullptr && last->kind == Link::Kind::kSum && last->target.first == nullptr && last->constants == nullptr;
  if (open && op->op == Pointwise::kMul && !planes) {
    last->constants = Take(&op->constants);
    return;
  }
  const bool sum = op->op == Pointwise::kAdd && planes;
  if (!(sum && open && last->operand_count < kMaxTerms)) {
    Link link;
    link.kind = sum ? Link::Kind::kSum : Link::Kind::kPointwise;
    link.op = op->op;
    link.constants = Take(&op->constants);
    link.operands = operands_.data() + operands_.size();
    links_.push_back(link);
    last = &links_.back();
  }
  if (!planes) return;
  operands_.push_back(OperandOf(op->plane, op->resize));
  ++last->operand_count;
  last->resizes = last->resizes || op->resize >= 0;
}

// Maps and thresholds stay with the program's steps.
void BoundProgram::AppendByteOp(ChainOp& op) {
  Link link;
  link.kind = op.addition < 0 ? Link::Kind::kMap : Link::Kind::kByteSum;
  if (op.addition < 0) {
    op.byte_maps = ByteMapsOf(op.map);
    link.maps = op.byte_maps.data();
  } else {
    link.addition = &program_.additions[static_cast<size_t>(op.addition)];
    link.carries_second = op.carries_second;
    link.operands = operands_.data() + operands_.size();
    link.operand_count = 1;
    operands_.push_back(OperandOf(op.plane, op.resize));
  }
  links_.push_back(link);
}

void BoundProgram::BindStep(Step* step) {
  const size_t first = links_.size();
  BoundStep bound;
  bound.kind = step->kind;
  bound.bytes = step->bytes;
  bound.channels = step->channels;
  bound.pixels = GeometryOf(step->geometry).pixels;
  bound.links = links_.data() + first;
  bound.source = OperandOf(step->source, -1);
  if (step->kind == StepKind::kResize) bound.source.resize = &step->resize;
  bound.mask = GeometryOf(step->geometry).mask.data();
  Bconv& bconv = step->bconv;
  bound.pads_are_zero = !bconv.tap_sums.empty();
  bound.triples = bconv.triples;
  bound.clamp_min = bconv.clamp_min;
  bound.clamp_max = bconv.clamp_max;
  bound.offsets = bconv.offsets.data();
  bound.weights = bconv.weights.data();
  bound.multiplier = Take(&bconv.multiplier);
  bound.bias = Take(&bconv.bias);
  bound.alpha = Take(&bconv.alpha);
  for (size_t i = 0; i < bconv.curves.size(); ++i) {
    if (bconv.table_at[i] >= 0) bconv.curves[i].table = bconv.tables.data() + bconv.table_at[i];
  }
  bound.curves = bconv.curves.data();
  for (size_t i = 0; i < 2; ++i) {
    bound.residuals[i] = OperandOf(bconv.residuals[i], bconv.residual_resizes[i]);
  }
  Planes* result = &bound.target;  // where what was made last is stored
  for (ChainOp& op : step->chain) {
    switch (op.kind) {
      case ChainOp::Kind::kStore:
        *result = PlanesOf(op.plane);
        break;
      case ChainOp::Kind::kSign:
        AppendSign(&op);
        break;
      case ChainOp::Kind::kPointwise:
        step->bytes ? AppendByteOp(op) : AppendPointwise(&op, links_.size() == first);
        result = &links_.back().target;
        break;
    }
  }
  bound.link_count = static_cast<int>(links_.size() - first);
  steps_.push_back(bound);
}

}  // namespace bihrnet
