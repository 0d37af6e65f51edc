// Binary convolutions: where their taps lie in the input's planes, and the regrid where strides or VALID windows need
// one.
#include <limits>

#include "compiler/lowering.h"
#include "compiler/pack.h"

namespace bihrnet {

PlaneRef Lowering::RegridFor(PlaneRef source, int planes, const Window& window, const Reach& reach, int taps_height,
                             int taps_width, const Shape& input, const Shape& output,
                             std::vector<int32_t>* tap_offsets) {
  Step step;
  Regrid& regrid = step.regrid;
  const Geometry& place = (*geometries_)[GeometryOf(output)];
  regrid.stride_height = window.stride_height;
  regrid.stride_width = window.stride_width;
  regrid.first_row = reach.first_row;
  regrid.first_column = reach.first_column;
  regrid.rows = reach.last_row - reach.first_row + 1;
  regrid.columns = reach.last_column - reach.first_column + 1;
  regrid.pitch = place.pitch;
  std::map<std::pair<int, int>, int> phases;
  struct Tap {
    int phase, row, column;
  };
  std::vector<Tap> taps;
  const auto split = [](int t, int stride, int* quotient) {
    const int phase = ((t % stride) + stride) % stride;
    *quotient = (t - phase) / stride;
    return phase;
  };
  for (int y = 0; y < taps_height; ++y) {
    for (int x = 0; x < taps_width; ++x) {
      Tap tap{};
      const int py = split(y * window.dilation_height - reach.vertical.pad_before, window.stride_height, &tap.row);
      const int px = split(x * window.dilation_width - reach.horizontal.pad_before, window.stride_width, &tap.column);
      const auto [found, added] = phases.try_emplace({py, px}, static_cast<int>(regrid.phases.size()));
      if (added) regrid.phases.push_back({py, px});
      tap.phase = found->second;
      taps.push_back(tap);
    }
  }
  // A plane holds every row that a tap can reach, and past its end what the last vector of pixels reaches.
  const int64_t last = int64_t{regrid.rows - 1} * regrid.pitch + regrid.columns + kLanes + place.pixels -
                       int64_t{place.height} * place.pitch + place.pitch;
  const size_t plane_bytes = RoundUpBytes(static_cast<size_t>(std::max<int64_t>(last, 1)), 64) + 64;
  const int64_t total = static_cast<int64_t>(plane_bytes) * planes * static_cast<int64_t>(regrid.phases.size());
  if (total > std::numeric_limits<int32_t>::max()) {
    error_ = "a convolution of the region reaches too far.";
    return source;
  }
  for (const Tap& tap : taps) {
    tap_offsets->push_back(static_cast<int32_t>(static_cast<int64_t>(plane_bytes) * planes * tap.phase) +
                           (tap.row - regrid.first_row) * regrid.pitch + tap.column - regrid.first_column);
  }
  std::vector<int> key{source.value,        source.plane, planes,         GeometryOf(output),   regrid.first_row,
                       regrid.first_column, regrid.rows,  regrid.columns, window.stride_height, window.stride_width};
  for (const Regrid::Phase& phase : regrid.phases) key.insert(key.end(), {phase.y, phase.x});
  const auto known = regrids_.find(key);
  if (known != regrids_.end()) return known->second;

  Value value;
  value.sign = true;
  value.planes = planes * static_cast<int>(regrid.phases.size());
  value.channels = value.planes * kQuad;
  value.geometry = GeometryOf(input);  // what it is cut from; its own layout is the step's
  value.plane_bytes = plane_bytes;
  out_.program.values.push_back(value);
  const int index = static_cast<int>(out_.program.values.size()) - 1;
  RangeOp& op = AddOp(StepKind::kRegrid, index, 0, value.channels);
  op.inputs = {source};
  step.channels = planes * kQuad;
  op.detail = AddDetail(std::move(step));
  return regrids_[key] = {index, 0};
}

void Lowering::LowerBconv(const Node& node) {
  const int input = node.inputs[0];
  const int output = node.outputs[0];
  const Tensor& filter = TensorOf(node.inputs[1]);
  const Tensor& target = TensorOf(output);
  const Shape& from = ShapeOf(input);
  const Shape& to = ShapeOf(output);
  const int words = (node.channels_in + 31) / 32;
  const int groups = words / filter.dims[3];
  const Reach reach = FindReach(node.window, filter.dims[1], filter.dims[2], from);
  const int value =
      target.type == TensorType::kInt8 ? AddValueOf(output) : AddValue(false, to.channels, GeometryOf(to));
  const int group_in = node.channels_in / groups;
  const int group_out = to.channels / groups;
  PlaneRef source = PlacedOf(input).segments[0].from;
  const int planes = out_.program.values[static_cast<size_t>(source.value)].planes;
  size_t plane_bytes = out_.program.values[static_cast<size_t>(source.value)].plane_bytes;
  std::vector<int32_t> tap_offsets;
  if (reach.direct) {
    const int pitch = (*geometries_)[GeometryOf(from)].pitch;
    for (int y = 0; y < filter.dims[1]; ++y) {
      for (int x = 0; x < filter.dims[2]; ++x) {
        tap_offsets.push_back((y * node.window.dilation_height - reach.vertical.pad_before) * pitch +
                              x * node.window.dilation_width - reach.horizontal.pad_before);
      }
    }
  } else {
    source = RegridFor(source, planes, node.window, reach, filter.dims[1], filter.dims[2], from, to, &tap_offsets);
    plane_bytes = out_.program.values[static_cast<size_t>(source.value)].plane_bytes;
  }
  if (!error_.empty()) return;
  for (int group = 0; group < groups; ++group) {
    BconvSource packed;
    packed.filter = &filter;
    packed.activation = node.activation;
    packed.output = &target;
    if (target.type == TensorType::kBits) {
      packed.thresholds = &TensorOf(node.inputs[4]);
    } else {
      packed.multiplier = &TensorOf(node.inputs[2]);
      packed.bias = &TensorOf(node.inputs[3]);
    }
    packed.channels_in = group_in;
    packed.first = group * group_out;
    packed.channels = group_out;
    Step step;
    step.name = "bconv " + std::to_string(filter.dims[1]) + "x" + std::to_string(filter.dims[2]);
    if (node.window.dilation_height > 1) step.name += " dilation " + std::to_string(node.window.dilation_height);
    if (node.window.stride_height > 1) step.name += " stride " + std::to_string(node.window.stride_height);
    step.macs = int64_t{filter.dims[1]} * filter.dims[2] * group_in * to.height * to.width;  // a channel
    step.channels = group_in;
    PackBconv(packed, plane_bytes, tap_offsets, &step.bconv);
    if (node.pad_is_zero && node.window.same) PackZeroPadding(packed, node.window, reach, from, &step.bconv);
    RangeOp& op = AddOp(StepKind::kBconv, value, group * group_out, group_out);
    op.inputs = {{source.value, source.plane + group * group_in / kQuad}};
    op.detail = AddDetail(std::move(step));
  }
  PlacedOf(output).segments = {{{value, 0}, to.channels}};
  if (target.type == TensorType::kBits) {
    const std::vector<Segment> floats = Contiguous(output, kQuad);
    const int signs = AddValue(true, to.channels, GeometryOf(to));
    RangeOp& op = AddOp(StepKind::kRead, signs, 0, to.channels);
    op.sign = true;
    op.inputs = {floats[0].from};
    PlacedOf(output).segments = {{{signs, 0}, to.channels}};
  }
}

}  // namespace bihrnet
