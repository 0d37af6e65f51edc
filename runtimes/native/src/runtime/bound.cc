#include "runtime/bound.h"

namespace bihrnet {
namespace {

class Binder {
 public:
  Binder(const Program& program, uint8_t* arena) : program_(program), arena_(arena) {}

  BoundStep Bind(const Step& step) const;

 private:
  const Value& ValueOf(PlaneRef plane) const { return program_.values[static_cast<size_t>(plane.value)]; }
  const Geometry& GeometryOf(int index) const { return program_.geometries[static_cast<size_t>(index)]; }
  Planes PlanesOf(PlaneRef plane) const;
  Operand OperandOf(PlaneRef plane, int resize) const;
  Link SignLink(const ChainOp& link) const;
  void Append(const ChainOp& op, std::vector<Link>* links) const;

  const Program& program_;
  uint8_t* arena_;
};

Planes Binder::PlanesOf(PlaneRef plane) const {
  if (plane.value < 0) return {};
  const Value& value = ValueOf(plane);
  return {arena_ + value.offset + static_cast<size_t>(plane.plane) * value.plane_bytes + value.margin,
          value.plane_bytes};
}

Operand Binder::OperandOf(PlaneRef plane, int resize) const {
  if (plane.value < 0) return {};
  return {PlanesOf(plane), resize >= 0 ? &program_.resizes[static_cast<size_t>(resize)] : nullptr,
          GeometryOf(ValueOf(plane).geometry).pitch};
}

Link Binder::SignLink(const ChainOp& op) const {
  const Value& value = ValueOf(op.plane);
  Link link;
  link.kind = Link::Kind::kSign;
  link.constants = op.constants.empty() ? nullptr : op.constants.data();
  link.target = PlanesOf(op.plane);
  link.margin = value.margin;
  link.margin_back = value.plane_bytes - value.margin - static_cast<size_t>(GeometryOf(value.geometry).pixels);
  return link;
}

// Additions in a row, and a multiplication by constants after them, read every operand in one pass.
void Binder::Append(const ChainOp& op, std::vector<Link>* links) const {
  const bool planes = op.plane.value >= 0;
  Link* last = links->empty() ? nullptr : &links->back();
  const bool open =
      last != nullptr && last->kind == Link::Kind::kSum && last->target.first == nullptr && last->constants == nullptr;
  if (open && op.op == Pointwise::kMul && !planes) {
    last->constants = op.constants.data();
    return;
  }
  const bool sum = op.op == Pointwise::kAdd && planes;
  if (!(sum && open && last->operands < kMaxTerms)) {
    Link link;
    link.kind = sum ? Link::Kind::kSum : Link::Kind::kPointwise;
    link.op = op.op;
    link.constants = op.constants.empty() ? nullptr : op.constants.data();
    links->push_back(link);
    last = &links->back();
  }
  if (!planes) return;
  last->operand[last->operands++] = OperandOf(op.plane, op.resize);
  last->resizes = last->resizes || op.resize >= 0;
}

BoundStep Binder::Bind(const Step& step) const {
  BoundStep bound;
  bound.source = OperandOf(step.source, -1);
  if (step.kind == StepKind::kResize) bound.source.resize = &step.resize;
  for (size_t i = 0; i < 2; ++i) {
    bound.residuals[i] = OperandOf(step.bconv.residuals[i], step.bconv.residual_resizes[i]);
  }
  bound.mask = GeometryOf(step.geometry).mask.data();
  bound.channels = step.channels;
  bound.pixels = GeometryOf(step.geometry).pixels;
  int maker = -1;  // the link that made the latest result, -1 for what the chain begins with
  for (const ChainOp& op : step.chain) {
    switch (op.kind) {
      case ChainOp::Kind::kStore:
        (maker < 0 ? bound.target : bound.links[static_cast<size_t>(maker)].target) = PlanesOf(op.plane);
        break;
      case ChainOp::Kind::kSign:
        bound.links.push_back(SignLink(op));
        break;
      case ChainOp::Kind::kPointwise:
        Append(op, &bound.links);
        maker = static_cast<int>(bound.links.size()) - 1;
        break;
    }
  }
  return bound;
}

}  // namespace

std::vector<BoundStep> Bind(const Program& program, uint8_t* arena) {
  const Binder binder(program, arena);
  std::vector<BoundStep> steps;
  steps.reserve(program.steps.size());
  for (const Step& step : program.steps) steps.push_back(binder.Bind(step));
  return steps;
}

}  // namespace bihrnet
