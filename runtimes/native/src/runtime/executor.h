// Runs a program: one arena, one pool of threads, the items of a level shared out among the threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "compiler/program.h"
#include "kernels/kernels.h"
#include "runtime/bound.h"
#include "runtime/schedule.h"
#include "runtime/thread_pool.h"

namespace bihrnet {

// Time spent in one step, on all threads together.
struct StepTime {
  uint64_t ticks = 0;
  uint64_t bconv_ticks = 0;  // of it in the binary convolution's own kernel
};

class Executor {
 public:
  // `kernels` and `pool` must outlive the executor.
  Executor(Program program, const Kernels& kernels, ThreadPool& pool, bool profile);

  // Takes the arena; false where there is not enough memory.
  bool Allocate();

  // One inference: NHWC data of the region's inputs and outputs, in the order of the graph.
  void Run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs);

  const Program& program() const { return program_; }
  uint64_t runs() const { return runs_; }
  uint64_t ticks() const { return ticks_; }  // of all runs, wall time
  std::vector<StepTime> StepTimes() const;
  std::vector<uint64_t> ScaleTicks() const;  // of one run, by step

 private:
  void Work(int thread);
  void RunItem(const Item& item, int thread);
  void Prefetch(const Item* next) const;
  void RunTile(const Step& step, const BoundStep& bound, int quad, int pixel, int pixels, StepTime* time);
  void Produce(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
               float* const* rows, StepTime* time);
  void BconvRows(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                 float* const* rows, StepTime* time);
  void RunLinks(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                const float* const* made, float* const* temporary) const;
  void RunLink(const Step& step, const Link& link, int quad, int channels, int pixel, int pixels,
               const float* const* source, float* const* rows) const;
  void RunByteTile(const Step& step, const BoundStep& bound, int quad, int pixel, int pixels, StepTime* time);
  void ProduceBytes(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                    int8_t* const* rows, StepTime* time);
  void ByteBconvRows(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                     int8_t* const* rows, StepTime* time);
  void RunByteLinks(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                    const int8_t* const* made, int8_t* const* temporary) const;
  void ByteOperandOf(const Step& step, const Operand& operand, int quad, int channels, int pixel, int pixels,
                     int8_t (*scratch)[kTilePixels], const int8_t** rows) const;
  void PoolByteRow(const Step& step, const BoundStep& bound, int channel, int pixel, int pixels, int8_t* row) const;
  void ByteResizeRow(const Step& step, const Operand& operand, int channel, int pixel, int pixels, int8_t* row) const;
  void RunByteConv(const Step& step, const BoundStep& bound, const Item& item) const;
  void RunByteSum(const Step& step, const Link& link, int quad, int channels, int pixel, int pixels,
                  const int8_t* const* source, int8_t* const* rows) const;
  void CountSigns(const BoundStep& bound, int quad, int pixel, int pixels, bool halves, uint16_t* acc,
                  StepTime* time) const;
  void SetSigns(const BoundStep& bound, const Link& link, int quad, int channels, int pixel, int pixels,
                const float* const* rows, const int8_t* const* bytes) const;
  void LoadRows(const Step& step, int quad, int channels, int pixel, int pixels, float* const* rows) const;
  void PoolRows(const Step& step, int quad, int channels, int pixel, int pixels, float* const* rows) const;
  void ResizeRow(const Step& step, const Operand& operand, int channel, int pixel, int pixels, float* row) const;
  void DequantizeRows(const Step& step, int quad, int channels, int pixel, int pixels, float* const* rows) const;
  void CorrectedRows(const Step& step, const BoundStep& bound, int quad, int channels, int pixel, int pixels,
                     const uint16_t* acc, float* const* rows) const;
  void RegridPlanes(const Step& step, int first, int count);
  void PoolSigns(const Step& step, int first, int count);
  void LoadWordRows(const Step& step, int first, int count) const;
  void ByteWordsRow(const Step& step, int y, int columns, int16_t* words) const;
  void ImageConvRow(const Step& step, int y, int16_t* words) const;
  void RunConv(const Step& step, const BoundStep& bound, const Item& item) const;
  void LoadBits(const Step& step, int first, int count);
  void StoreBits(const Step& step, int pixel, int pixels) const;
  void StoreRows(const Step& step, int pixel, int pixels) const;

  const Value& ValueOf(PlaneRef plane) const { return program_.values[static_cast<size_t>(plane.value)]; }
  const Geometry& GeometryOf(const Step& step) const { return program_.geometries[static_cast<size_t>(step.geometry)]; }
  uint64_t ByteScaleTicks(const BoundStep& bound) const;
  float* FloatPlane(PlaneRef plane, int channel) const;
  uint8_t* SignPlane(PlaneRef plane, int quad) const;  // at its first pixel
  void ZeroMargins(PlaneRef plane, int quad, bool front, bool back) const;

  Program program_;
  const Kernels& kernels_;
  ThreadPool& pool_;
  bool profile_;
  Schedule schedule_;
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<uint8_t, Free> arena_;
  std::unique_ptr<BoundProgram> bound_;      // null before Allocate
  std::vector<std::atomic<uint64_t>> next_;  // by level: how many items threads have taken
  std::vector<const uint8_t*> inputs_;
  std::vector<uint8_t*> outputs_;
  std::vector<std::vector<StepTime>> times_;  // by thread, then step
  uint64_t runs_ = 0;
  uint64_t ticks_ = 0;
};

// A clock that is cheap enough to be read around a single kernel call.
uint64_t Ticks();

}  // namespace bihrnet
